"""Readers of the user's interaction files: one module per file format, with a common interface."""
