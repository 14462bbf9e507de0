"""Features of frozen encoders, kept on disk from run to run."""
