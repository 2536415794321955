"""Any HTTP server started by a command line of its own."""
