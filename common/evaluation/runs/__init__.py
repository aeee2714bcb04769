"""Read finished runs of evaluate.py from their files, and compare these runs."""
