"""Packed rows and their keys: the stored formats, and the columns they are made of."""
