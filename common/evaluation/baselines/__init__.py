"""Baselines for comparison with a model; each baseline is a module with the same interface."""
