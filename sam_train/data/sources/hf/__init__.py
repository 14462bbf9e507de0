"""Data sets of Hugging Face: a column of images and a column of masks."""
