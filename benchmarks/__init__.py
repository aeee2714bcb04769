"""Performance benchmarks, one script each, which compare the program with named baselines."""
