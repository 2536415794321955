"""How allauth, which signs people in, fits into Corral."""
