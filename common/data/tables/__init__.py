"""Text files from anywhere: pairs, FASTA, id lists, and the ids in them."""
