"""Inference with trained models: checkpoints, scoring of pairs, thresholds and metrics."""
