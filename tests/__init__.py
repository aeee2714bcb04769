"""Tests: unit, the scripts as subprocesses, two processes."""
