"""Measurements of Corral, each runnable as ``python -m benchmarks.<name>``."""
