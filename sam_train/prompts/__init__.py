"""Prompts a person might have given, made from ground-truth masks."""
