"""The id of the offline log, read without opening it: all that a process which only serves needs of the log."""

from __future__ import annotations

from headwater.database.database import Database


def read_log_id(database: Database) -> str | None:
    """The id; None where the database has no log yet.

    Raises:
        Unavailable, FormatError: what the database said.
    """
    with database.reads("offline log in") as reads:
        if not reads.has_table("log_counter"):
            return None
        rows = reads.rows("SELECT log_id FROM log_counter")
    return rows[0].log_id if rows else None
