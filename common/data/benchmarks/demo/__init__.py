"""The synthetic benchmark: generated on the spot, for runs without a network."""
