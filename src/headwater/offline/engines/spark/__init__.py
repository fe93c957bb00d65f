"""Spark: the point-in-time query where the tables are, in a session of headwater's own."""
