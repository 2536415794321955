"""The management API's shared parts, and what it offers about people."""
