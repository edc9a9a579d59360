"""Where ranges run."""
