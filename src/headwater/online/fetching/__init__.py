"""From keys to packed rows: the call to the store, and what stands before it."""
