"""The rules: what can be done with instances, and what follows."""
