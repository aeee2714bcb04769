"""Trained models put to use: checkpoints, scores of many pairs, thresholds, metrics."""
