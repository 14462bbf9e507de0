"""A model at work: prompted, corrected, and scored on masks it has not seen."""
