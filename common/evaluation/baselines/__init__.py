"""Baselines to compare a model with: each has its own file, and all follow the same interface."""
