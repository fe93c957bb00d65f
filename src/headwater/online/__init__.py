"""Online: packed rows in a key-value store, and prepared reads of them."""
