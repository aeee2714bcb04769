"""Residue states of a protein language model: computed once, stored in Arrow, memory-mapped."""
