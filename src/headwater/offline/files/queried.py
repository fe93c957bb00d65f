"""Files that a user's own SQL names: relative paths start from the project, and folders above them are not columns.

DuckDB looks for relative paths in the working directory, and takes every `name=value` folder of a path for a partition,
those above the project too, whose value replaces the column of that name which the file has. In a query of the user's
paths are those of sources: relative to the project, patterns only where nothing has that very name, hive partitions
only below the part that holds no wildcard; what the query says itself of `hive_partitioning` stands.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import sqlglot
from sqlglot import TokenType
from sqlglot.errors import SqlglotError

from headwater.errors import SourceError
from headwater.offline.files.locations import is_wild, literal_pattern, split_pattern
from headwater.offline.files.table_formats import refuse_within

_READERS = frozenset(
    ("parquet_scan", "read_parquet", "read_csv", "read_csv_auto", "read_json", "read_json_auto", "read_json_objects")
) | frozenset(("read_json_objects_auto", "read_ndjson", "read_ndjson_auto", "read_ndjson_objects"))
_BY_ENDING = (
    (re.compile(r"\.parquet$", re.I), "read_parquet"),
    (re.compile(r"\.(csv|tsv)(\.gz|\.zst)?$", re.I), "read_csv"),
    (re.compile(r"\.(json|jsonl|ndjson)(\.gz|\.zst)?$", re.I), "read_json"),
)
_OTHER_READERS = frozenset(("glob", "read_text", "read_blob", "sniff_csv", "read_xlsx", "st_read", "sqlite_scan")) | (
    frozenset(f"parquet_{what}" for what in ("schema", "metadata", "file_metadata", "kv_metadata", "bloom_probe"))
)
_ELSEWHERE = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
_WITHOUT = "hive_partitioning = false"
_PARTITION = re.compile(r"[^/\\=]+=[^/\\]*[/\\]")
_OPENERS = (TokenType.L_PAREN, TokenType.L_BRACKET, TokenType.L_BRACE)
_CLOSERS = (TokenType.R_PAREN, TokenType.R_BRACKET, TokenType.R_BRACE)
_BEFORE_ALL = (TokenType.SELECT, TokenType.DISTINCT, TokenType.COMMA, TokenType.DOT)
_BEFORE_A_TABLE = (TokenType.FROM, TokenType.JOIN, TokenType.COMMA, TokenType.L_PAREN)
_BEFORE_A_QUERY = (TokenType.L_PAREN, TokenType.UNION, TokenType.EXCEPT, TokenType.INTERSECT, TokenType.ALL)
_WHOLE_TABLES = frozenset(("columns", "natural", "pivot", "unpivot", "summarize", "table"))
_CLAUSES = (
    frozenset(
        (TokenType.SELECT, TokenType.FROM, TokenType.JOIN, TokenType.WHERE, TokenType.GROUP_BY, TokenType.ORDER_BY)
    )
    | frozenset((TokenType.HAVING, TokenType.LIMIT, TokenType.QUALIFY, TokenType.ON, TokenType.USING, TokenType.VALUES))
    | frozenset((TokenType.WITH, TokenType.UNION, TokenType.EXCEPT, TokenType.INTERSECT, TokenType.WINDOW))
)
_NAMES = (TokenType.VAR, TokenType.IDENTIFIER, TokenType.ALIAS)


def in_project(sql: str, folder: Path, where: str) -> str:
    """A query of the user's with the files that it names as paths below the project's folder.

    Args:
        sql: the query.
        folder: the project's folder.
        where: for errors.

    Raises:
        SourceError: the files of a function are no texts in quotes, or are those of a table format.
    """
    try:
        tokens = sqlglot.tokenize(sql, dialect="duckdb")
    except SqlglotError:
        return sql
    for start, end, text in sorted(_changes(tokens, folder.absolute(), where), reverse=True):
        sql = sql[:start] + text + sql[end:]
    return sql


def parquet_reads(sql: str) -> list[tuple[str, list[str]]]:
    """The Parquet files that a query names: what it reads them by, and their paths.

    Args:
        sql: a query as `in_project` gives it.
    """
    try:
        tokens = sqlglot.tokenize(sql, dialect="duckdb")
    except SqlglotError:
        return []
    found = []
    for i, is_function in _reads(tokens):
        if not is_function:
            table = _table_file(tokens, i)
            if table is not None and table[1] == "read_parquet":
                text, _, last = table
                found.append((sql[tokens[i].start : tokens[last].end + 1], [text]))
        elif tokens[i].text.casefold() in ("read_parquet", "parquet_scan"):
            inner = list(_arguments(tokens, i + 1))
            paths = [token.text for token in _first_argument(inner) if token.token_type is TokenType.STRING]
            end = i + 2 + len(inner)
            if paths and end < len(tokens):
                found.append((sql[tokens[i].start : tokens[end].end + 1], paths))
    return found


def used_names(sql: str) -> set[str] | None:
    """The names in a query, their case folded; None where it takes all columns of a table."""
    try:
        tokens = sqlglot.tokenize(sql, dialect="duckdb")
    except SqlglotError:
        return None
    for before, token in zip([None, *tokens], tokens, strict=False):
        if token.token_type is TokenType.STAR and (before is None or before.token_type in _BEFORE_ALL):
            return None
    if not any(token.token_type is TokenType.SELECT for token in _outermost(tokens)):
        return None
    if any(_takes_all(before, token) for before, token in zip([None, *tokens], tokens, strict=False)):
        return None
    return {token.text.casefold() for token in tokens}


def _outermost(tokens: Sequence[Any]) -> Iterator[Any]:
    """The tokens that are not within parentheses; of a query within them, those of it."""
    depth = least = 0
    while least < len(tokens) and tokens[least].token_type is TokenType.L_PAREN:
        least += 1
    for token in tokens:
        depth += (token.token_type in _OPENERS) - (token.token_type in _CLOSERS)
        if depth <= least:
            yield token


def _takes_all(before: Any, token: Any) -> bool:
    """Whether a query takes all columns of a table with no star: FROM without SELECT, COLUMNS(…), a natural join."""
    if token.token_type is TokenType.FROM:
        return before is None or before.token_type in _BEFORE_A_QUERY or before.text.casefold() == "name"
    return token.token_type is not TokenType.IDENTIFIER and token.text.casefold() in _WHOLE_TABLES


def _changes(tokens: Sequence[Any], folder: Path, where: str) -> Iterator[tuple[int, int, str]]:
    """(start, end, text) of each part that is replaced."""
    for i, is_function in _reads(tokens):
        yield from (_of_function if is_function else _of_table)(tokens, i, folder, where)


def _reads(tokens: Sequence[Any]) -> Iterator[tuple[int, bool]]:
    """The tokens that may name files: (which, whether it is a function that reads them)."""
    clauses: list[TokenType | None] = [None]
    for i, token in enumerate(tokens):
        after = tokens[i + 1] if i + 1 < len(tokens) else None
        before = tokens[i - 1].token_type if i else None
        if token.token_type in _OPENERS:
            named = before in (TokenType.FROM, TokenType.JOIN, TokenType.COMMA, *_OPENERS)
            clauses.append(clauses[-1] if token.token_type is TokenType.L_PAREN and named else None)
        elif token.token_type in _CLOSERS and len(clauses) > 1:
            clauses.pop()
        elif token.token_type in _CLAUSES:
            clauses[-1] = token.token_type
        opened = after is not None and after.token_type is TokenType.L_PAREN
        if opened and token.text.casefold() in _READERS | _OTHER_READERS:
            yield i, True
        elif clauses[-1] in (TokenType.FROM, TokenType.JOIN) and before in _BEFORE_A_TABLE:
            yield i, False


def _of_function(tokens: Sequence[Any], i: int, folder: Path, where: str) -> Iterator[tuple[int, int, str]]:
    inner = list(_arguments(tokens, i + 1))
    paths = _first_argument(inner)
    rest = [t for t in paths if t.token_type not in (TokenType.STRING, TokenType.COMMA, *_OPENERS, *_CLOSERS)]
    if rest or any(a.token_type is b.token_type is TokenType.STRING for a, b in pairwise(paths)):
        if not (paths and paths[0].token_type is TokenType.STRING and _is_elsewhere(paths[0].text)):
            raise SourceError(
                f"{where}: write the files of {tokens[i].text}(…) as text in quotes: relative paths start from the "
                "project's folder, which an expression hides; or name them in tables={…}"
            )
        return
    below = False
    for token in paths:
        if token.token_type is TokenType.STRING:
            path = _placed(token.text, folder, where)
            below |= _is_below_a_partition(path)
            if path != token.text:
                yield token.start, token.end + 1, _quoted(path)
    said = any(t.text.casefold().startswith("hive_") for t in inner)
    if tokens[i].text.casefold() in _READERS and inner and not said and below:
        last = tokens[i + 1 + len(inner)]
        yield last.end + 1, last.end + 1, f", {_WITHOUT}"


def _of_table(tokens: Sequence[Any], i: int, folder: Path, where: str) -> Iterator[tuple[int, int, str]]:
    named = _table_file(tokens, i)
    if named is None:
        return
    token, (text, reader, last) = tokens[i], named
    path = _placed(text, folder, where)
    below = _is_below_a_partition(path)
    if path == text and not below:
        return
    after = tokens[last + 1] if last + 1 < len(tokens) else None
    stem = re.split(r"[/\\]", text)[-1].split(".")[0].replace('"', '""')
    alias = "" if after is not None and after.token_type in _NAMES else f' AS "{stem}"'
    yield token.start, tokens[last].end + 1, f"{reader}({_quoted(path)}{f', {_WITHOUT}' if below else ''}){alias}"


def _table_file(tokens: Sequence[Any], i: int) -> tuple[str, str, int] | None:
    """A file that stands for a table: its path, what reads it, and its last token; None where it is not a file."""
    token, last, text = tokens[i], i, tokens[i].text
    if token.token_type not in (TokenType.STRING, TokenType.IDENTIFIER):
        # w.parquet, without quotes
        while last + 2 < len(tokens) and tokens[last + 1].token_type is TokenType.DOT:
            last += 2
            text += f".{tokens[last].text}"
        if last == i or tokens[last].token_type is TokenType.STAR:
            return None
    elif i + 1 < len(tokens) and tokens[i + 1].token_type is TokenType.DOT:
        return None
    reader = next((name for ending, name in _BY_ENDING if ending.search(text)), None)
    return None if reader is None else (text, reader, last)


def _first_argument(inner: Sequence[Any]) -> list[Any]:
    """The tokens of a function's first argument."""
    found, depth = [], 0
    for token in inner:
        depth += (token.token_type in _OPENERS) - (token.token_type in _CLOSERS)
        if token.token_type is TokenType.COMMA and not depth:
            break
        found.append(token)
    return found


def _quoted(path: str) -> str:
    return "'" + path.replace("'", "''") + "'"


def _is_elsewhere(text: str) -> bool:
    """Whether a path does not depend on the working directory: an absolute one, a URL, `~`."""
    return text.startswith(("/", "~")) or _ELSEWHERE.match(text) is not None


def _placed(text: str, folder: Path, where: str) -> str:
    """A path as DuckDB is to read it: absolute, without patterns where that very name is there."""
    if not text or _ELSEWHERE.match(text) or text.startswith("~"):
        return text
    root, pattern = split_pattern(folder / text, folder)
    refuse_within((root, *root.parents), where)
    literal = str(root)
    if text.startswith("/") and not is_wild(literal):
        return text
    return "/".join([literal_pattern(literal), *pattern])


def _arguments(tokens: Sequence[Any], opening: int) -> Iterator[Any]:
    """The tokens between a parenthesis and the one that closes it."""
    depth = 0
    for token in tokens[opening:]:
        depth += (token.token_type in _OPENERS) - (token.token_type in _CLOSERS)
        if depth == 0:
            return
        if token is not tokens[opening]:
            yield token


def _is_below_a_partition(path: str) -> bool:
    """Whether a path has a folder like a partition before its first wildcard."""
    return _PARTITION.search(re.split(r"[*?]|\[(?![*?\[]\])", path)[0]) is not None
