"""People's interaction files: one file for each format, and the contract that they share."""
