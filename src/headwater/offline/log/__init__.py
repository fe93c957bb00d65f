"""The offline log: every row given to `write`, in one order, and the tombstones of deletes and purges."""
