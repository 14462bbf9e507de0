"""Trainable parameters: freezing, adapters, learning rates."""
