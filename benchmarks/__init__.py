"""Ratios against named baselines: one script each, run by hand."""
