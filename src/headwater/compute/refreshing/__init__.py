"""Refreshes: rows past their SLA computed again, for a read that waits or by a worker."""
