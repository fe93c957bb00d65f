"""The functions that statements of each engine may call, by their names in SQLGlot: the engine has all of them.

A query that calls another fails the suite, which finds it where no test of that engine happens to run into it. Look up
that the engine has it, and how SQLGlot writes it there, before you add it.
"""

JOIN = frozenset(
    ["coalesce", "count", "count_if", "exists", "greatest", "lag", "lead", "max", "min", "row_number", "sum"]
)
"""What the query calls on an engine of which nothing more is asked than window functions."""

DUCKDB = JOIN | {
    *("avg", "datediff", "epoch_us", "is_nan", "least", "left", "md5", "struct", "transform", "unix_to_time"),
    # of values that do not fit their dtype
    *("abs", "bit_length", "epoch_ns", "error", "filter", "isfinite", "length", "list_count", "make_timestamptz"),
    *("split_part", "trunc"),
}
SQLITE = JOIN | {"headwater_failed", "headwater_number"}
SPARK = JOIN | {
    *("array_size", "concat", "conv", "left", "md5", "raise_error", "substring", "transform", "unix_date"),
    *("abs", "bit_length", "broadcast", "is_valid_utf8", "regexp_split", "timestamp_micros"),
    *("unix_micros", "isnan", "is_nan", "least", "struct", "xxhash64", "monotonically_increasing_id"),
}
