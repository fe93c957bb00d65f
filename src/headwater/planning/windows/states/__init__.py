"""The states of aggregates: what is kept of events, so that it can be added to, and merged with another's.

These are the scalar forms. The history kernel's, over whole columns (Arrow, NumPy), belong beside them, one file a kind
with the same name and `_columns` behind it, and are tested against these.
"""
