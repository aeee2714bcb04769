"""Runs of evaluate.py, read back from what they left and compared."""
