"""Compute: writes, deletes, runs, reads and refreshes, made of the registry, the offline and the online package."""
