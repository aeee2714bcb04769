"""Computes the residue states of a protein language model once, and stores them as Arrow files."""
