"""Clips: frames in order, with the masks of some of them."""
