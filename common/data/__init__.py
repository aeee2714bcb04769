"""Benchmarks, the embeddings of benchmark proteins, and the batches that models train on."""
