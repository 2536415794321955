"""The management API of instances and engines, below ``/api/v1/``."""
