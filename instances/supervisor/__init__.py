"""The supervisor of one node; runs in the Celery worker. See docs/architecture.md for its loop and its states."""
