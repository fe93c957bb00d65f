"""The one point-in-time query, its lowerings, and what it needs of an engine."""
