"""Lightning modules: one training and validation step around a model."""
