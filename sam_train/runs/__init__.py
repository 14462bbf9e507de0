"""Runs as objects: fine-tune, load, evaluate. What the command line calls, and the Python API.

Imported when used: ``from sam_train.runs.fit import fit``, ``from sam_train.runs.run import Run``.
"""
