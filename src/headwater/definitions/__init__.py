"""Definitions: entities, sources, features, views and services as frozen values."""
