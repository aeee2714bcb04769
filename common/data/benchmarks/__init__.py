"""Benchmarks: one contract, and one file for each."""
