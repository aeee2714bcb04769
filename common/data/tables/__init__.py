"""Readers of text files from any source: pairs, FASTA, id lists, and the ids in them."""
