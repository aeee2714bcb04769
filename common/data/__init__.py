"""The benchmark, the ESM embeddings of its proteins, and the batches made of both."""
