"""The use of trained models: checkpoints, scores of many pairs, thresholds, metrics."""
