"""Data looked at before training, and written in other formats."""

CHECK, PREVIEW = "sam-data check", "sam-data preview"
"""By which a page and a picture say what made them."""
