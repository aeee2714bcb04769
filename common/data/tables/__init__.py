"""Readers of text files with protein pairs, sequences (FASTA), interactions or protein ids."""
