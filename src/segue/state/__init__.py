"""The tool's own records: what was planned, how far it came, what could not go. SQLite, one file."""
