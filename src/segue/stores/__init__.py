"""The real stores and the one in memory, each behind the ports; the only importers of database clients."""
