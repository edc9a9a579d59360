"""What the operator runs, one phase a module. Phases use ports, never a store, and do not know each other."""
