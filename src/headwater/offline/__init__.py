"""Offline: the point-in-time query, the engines that run it, and the offline log."""
