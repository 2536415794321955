"""Corral's gateway beside a plain Go reverse proxy in front of the same upstream: ``python -m benchmarks.gateway``."""
