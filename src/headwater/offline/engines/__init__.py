"""Engines that run the point-in-time query, one file each."""
