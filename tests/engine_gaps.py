"""What each engine of the tests cannot do: their suites prove it, and `scripts/engine_matrix.py` prints it."""

from headwater.errors import SourceError, UsageError
from headwater.testing.gaps import Gap, Gaps, Mark

_NO_TABLE = r"Table with name own_\d+ does not exist"
_NO_WINDOWS = "window aggregations, which engine .* cannot compute"

DUCKDB = Gaps()
SQLITE = Gaps(
    Gap("array", Mark.NEVER, SourceError, "does not fit array", "columns are scalars"),
    Gap("embedding", Mark.NEVER, SourceError, "does not fit embedding", "columns are scalars"),
    Gap("nan", Mark.NEVER, AssertionError, reason="stored as NULL"),
    Gap("zones", Mark.NEVER, AssertionError, reason="times are instants"),
    Gap("queries", Mark.NOT_IMPLEMENTED, SourceError, _NO_TABLE, "whole tables only"),
    Gap("transformations", Mark.NOT_IMPLEMENTED, SourceError, _NO_TABLE, "over files only"),
    Gap("windows", Mark.NOT_IMPLEMENTED, UsageError, _NO_WINDOWS),
)
SPARK = Gaps()

ENGINES = {"DuckDB": DUCKDB, "Spark": SPARK, "SQLite": SQLITE}
"""By the name that the documentation has for it."""
