"""A spine given as text: whether it is a query or the path of a file, and the query without what ends it."""

from __future__ import annotations

import re
from pathlib import Path

import sqlglot
from sqlglot.errors import SqlglotError

from headwater.errors import SpineError, brief

QUERIES = ("SELECT", "WITH", "FROM", "VALUES", "TABLE")
_OTHER_WORDS = (
    "ALTER ANALYZE ATTACH BEGIN CALL CHECKPOINT COMMENT COMMIT COPY CREATE DEALLOCATE DELETE DESCRIBE DETACH DROP "
    "EXECUTE EXPLAIN EXPORT IMPORT INSERT INSTALL LOAD MERGE PIVOT PRAGMA PREPARE RESET ROLLBACK SET SHOW SUMMARIZE "
    "TRUNCATE UNPIVOT UPDATE USE VACUUM"
)
_OTHERS = frozenset(_OTHER_WORDS.split())
_BEFORE = re.compile(r"(?:\s|--[^\n]*(?:\n|$)|/\*.*?\*/|\()*", re.DOTALL)
"""What may stand before the first word of a query: white space, comments of both kinds, parentheses."""
_WORD = re.compile(r"[A-Za-z]+(?![\w./\\:-])")


def is_file(path: Path) -> bool:
    """Whether a file is there; False also for text that no path can be."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def spine_query(text: str) -> str | None:
    """The query that a text is, without the semicolon and the comments at its end; None where it names a file.

    Raises:
        SpineError: another statement than a query, or several.
    """
    before = _BEFORE.match(text)
    word = _WORD.match(text, before.end() if before is not None else 0)
    first = "" if word is None else word.group().upper()
    long = len(text) > 4_000 or "\n" in text.strip() or (before is not None and before.group().strip() != "")
    if not long and (text.lower().endswith(".parquet") or (first not in QUERIES and is_file(Path(text)))):
        return None
    if first in QUERIES:
        return _one_query(text)
    if first in _OTHERS or long:
        begins = f"begins with {first}" if first else f"is {brief(text)}"
        raise SpineError(
            f"a spine's SQL is one query that begins with {', '.join(QUERIES[:-1])} or TABLE; this {begins}"
        )
    return None


def _one_query(text: str) -> str:
    try:
        tokens = sqlglot.tokenize(text, dialect="duckdb")
    except SqlglotError as bad:
        raise SpineError(f"the spine's query cannot be read: {brief(str(bad))}") from None
    while tokens and text[tokens[-1].start] == ";":
        tokens.pop()
    if any(text[token.start] == ";" for token in tokens):
        raise SpineError("the spine has more than one statement (it contains a semicolon): give one query")
    return text[: tokens[-1].end + 1]
