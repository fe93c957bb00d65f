"""Compute: writes, deletes, materialization and retrieval, made of the registry, the offline and the online rooms."""
