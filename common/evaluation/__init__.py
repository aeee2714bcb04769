"""Evaluate predictions: the test data, the tasks, the baselines and the results."""
