"""Benchmarks: headwater beside the raw store or engine in the same run, a script each; the package runs all."""
