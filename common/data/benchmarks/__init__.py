"""The benchmarks: each has its own module, and all follow the same interface."""
