"""Training sets: saved from history with all that they were made of, rebuilt and compared."""
