"""One suite a port, run the same on the store in memory and on the real ones."""
