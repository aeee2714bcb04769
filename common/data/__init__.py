"""Benchmarks, the embeddings of their proteins, and the batches made of both."""
