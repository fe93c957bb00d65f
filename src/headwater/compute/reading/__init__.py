"""Reads: prepared readers of the online store, and history with its versions fixed."""
