"""Evaluation tasks for predictions; each task is a module with the same interface."""
