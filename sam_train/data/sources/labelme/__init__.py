"""LabelMe: a JSON file of shapes beside each image."""
