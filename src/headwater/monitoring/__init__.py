"""Monitoring: what a store promises, measured on what it does."""
