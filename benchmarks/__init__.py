"""Benchmarks that measure ratios against named baselines: one script each, run by hand."""
