"""Which parameters of a model train, and how fast."""
