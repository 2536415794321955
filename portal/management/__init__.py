"""Commands of Django's management."""
