"""Inference engines: their options, command lines and readiness. `registry.get_backend` is the way in."""
