"""Wiring of Corral: settings, URLs, ASGI, Celery, the command."""

__version__ = "0.1.0"
