"""Readers of the user's interaction files: one module per format, with a shared interface."""
