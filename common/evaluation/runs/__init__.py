"""Runs of evaluate.py, read from the files that they wrote, and compared."""
