"""Files that a user's own SQL names: folders such as `x=99` above them are no columns.

DuckDB takes every `name=value` folder of a path for a partition, those above the project too, and lets its value
replace the column of that name which the file has. In a query of the user's hive partitions count only below the part
of a path that holds no wildcard, as for sources; what the query says itself of `hive_partitioning` stands.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

import sqlglot
from sqlglot import TokenType
from sqlglot.errors import SqlglotError

_READERS = frozenset(
    ("parquet_scan", "read_parquet", "read_csv", "read_csv_auto", "read_json", "read_json_auto", "read_json_objects")
) | frozenset(("read_json_objects_auto", "read_ndjson", "read_ndjson_auto", "read_ndjson_objects"))
_BY_ENDING = (
    (re.compile(r"\.parquet$", re.I), "read_parquet"),
    (re.compile(r"\.(csv|tsv)(\.gz|\.zst)?$", re.I), "read_csv"),
    (re.compile(r"\.(json|jsonl|ndjson)(\.gz|\.zst)?$", re.I), "read_json"),
)
_WITHOUT = "hive_partitioning = false"
_PARTITION = re.compile(r"[^/\\=]+=[^/\\]*[/\\]")
_OPENERS = (TokenType.L_PAREN, TokenType.L_BRACKET, TokenType.L_BRACE)
_CLOSERS = (TokenType.R_PAREN, TokenType.R_BRACKET, TokenType.R_BRACE)
_NAMES = (TokenType.VAR, TokenType.IDENTIFIER, TokenType.ALIAS)


def without_outer_partitions(sql: str) -> str:
    """A query of the user's in which no folder above the files that it names is a column."""
    if "=" not in sql:
        return sql
    try:
        tokens = sqlglot.tokenize(sql, dialect="duckdb")
    except SqlglotError:
        return sql
    for start, end, text in sorted(_changes(tokens), reverse=True):
        sql = sql[:start] + text + sql[end:]
    return sql


def _changes(tokens: Sequence[Any]) -> Iterator[tuple[int, int, str]]:
    """(start, end, text) of each part that is replaced."""
    for i, token in enumerate(tokens):
        after = tokens[i + 1] if i + 1 < len(tokens) else None
        if token.text.casefold() in _READERS and after is not None and after.token_type is TokenType.L_PAREN:
            inner = list(_arguments(tokens, i + 1))
            said = any(t.text.casefold().startswith("hive_") for t in inner)
            if inner and not said and any(_is_below_a_partition(t) for t in inner):
                last = tokens[i + 1 + len(inner)]
                yield last.end + 1, last.end + 1, f", {_WITHOUT}"
        elif i and tokens[i - 1].token_type in (TokenType.FROM, TokenType.JOIN) and _is_below_a_partition(token):
            reader = next((name for ending, name in _BY_ENDING if ending.search(token.text)), None)
            if reader is not None:
                path = token.text.replace("'", "''")
                stem = re.split(r"[/\\]", token.text)[-1].split(".")[0]
                named = after is not None and after.token_type in _NAMES
                quoted = stem.replace('"', '""')
                alias = "" if named else f' AS "{quoted}"'
                yield token.start, token.end + 1, f"{reader}('{path}', {_WITHOUT}){alias}"


def _arguments(tokens: Sequence[Any], opening: int) -> Iterator[Any]:
    """The tokens between a parenthesis and the one that closes it."""
    depth = 0
    for token in tokens[opening:]:
        depth += (token.token_type in _OPENERS) - (token.token_type in _CLOSERS)
        if depth == 0:
            return
        if token is not tokens[opening]:
            yield token


def _is_below_a_partition(token: Any) -> bool:
    """Whether a path has a folder like a partition before its first wildcard."""
    if token.token_type not in (TokenType.STRING, TokenType.IDENTIFIER):
        return False
    return _PARTITION.search(re.split(r"[*?\[]", token.text)[0]) is not None
