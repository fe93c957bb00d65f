"""Clients of a server: the store's own methods over HTTP."""
