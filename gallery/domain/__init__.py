"""Finding model files."""
