"""Benchmarks such as PRING: one module per benchmark, with a common interface."""
