"""The files that predicted networks are written to: one module for each format."""
