"""The evaluation tasks: one contract, and one file for each."""
