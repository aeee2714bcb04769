"""Baselines: what predictions without a model are worth. One contract, and one file for each."""
