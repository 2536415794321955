"""Mixed clients against a Corral to which everything happens: ``python -m benchmarks.soak``."""
