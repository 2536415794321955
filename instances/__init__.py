"""What runs where. The shim imports through this package without Django, so nothing may be imported here."""
