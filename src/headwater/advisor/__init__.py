"""Which feature store architecture fits stated requirements, by how much, and what would change the answer."""
