"""Materialization: what history has and the online store lacks, put there."""
