"""Tuned models for other runtimes."""
