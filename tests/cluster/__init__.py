"""Tests on hosts and clusters of their own, which take minutes and need root; see docs/hpc.md."""
