"""Compute: reads, writes, materialization: the rooms below at work together."""
