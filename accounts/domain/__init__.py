"""What people and administrators can do with accounts and keys."""
