"""Predictions judged: what they are judged on, the tasks, the results."""
