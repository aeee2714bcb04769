"""The evaluation tasks: each has its own file, and all follow the same interface."""
