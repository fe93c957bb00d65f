"""The online row of a window version: its lists of aggregates, its header, and how both are stored.

These are the scalar forms. Those for many rows at once (NumPy) belong beside them and are tested against these: reads
in `reading_columns`, updates of lists of numbers in `suffixes_columns`.
"""
