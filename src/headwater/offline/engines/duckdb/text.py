"""Texts of CSV files to their declared dtypes, in DuckDB's words: the rule of `planning.text_values` in SQL."""

from __future__ import annotations

from collections.abc import Sequence

from headwater.clock import FIRST_MICROS, LAST_MICROS
from headwater.definitions.bytes_text import HEX_BYTES, HEX_START
from headwater.definitions.csv_format import CSVFormat
from headwater.definitions.time_format import ISO, MONTHS, TimeFormat
from headwater.offline.engines.duckdb.words import text_sql, type_name
from headwater.offline.engines.duckdb.zones import bound_sql, instant_sql, kind_sql
from headwater.planning.local_time import LocalTimes
from headwater.planning.text_values import FALSE, INTEGER, NAMED_NUMBER, NUMBER, TRUE, WHOLE_NUMBER, grouped
from headwater.planning.value_rule import WHOLE
from headwater.types import DType

_QUICK_NUMBERS = {
    "float64": r"-?[0-9]{1,15}(?:\.[0-9]{1,20})?(?:[eE][+-]?[0-9]{1,2})?",
    "float32": r"-?[0-9]{1,7}(?:\.[0-9]{1,20})?",
}
"""How nearly all numbers are written: those that no float lacks, so that nothing else is to be looked at."""
_QUICK_DAY = r"[12][0-9]{3}-[0-9]{2}-[0-9]{2}"
_QUICK_TIME = _QUICK_DAY + r"[T ](?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\.[0-9]{1,6})?"
"""How nearly all times of ISO 8601 are written, but for their offset: DuckDB's own cast says the same of them."""
_DAYS = "DATE '0001-01-01' AND DATE '9999-12-31'"


def cast_text(sql: str, dtype: DType, form: CSVFormat, zone: LocalTimes | None = None) -> str:
    """The value of a text, NULL where the text is not such a value; arrays and embeddings are not cast here."""
    match dtype.name:
        case "string":
            return sql
        case "bytes":
            digits = (
                f"CASE WHEN {_matches(sql, HEX_BYTES)} THEN unhex(regexp_extract({sql}, {text_sql(HEX_BYTES)}, 1)) END"
            )
            return f"CASE WHEN regexp_matches({sql}, {text_sql('^' + HEX_START)}) THEN {digits} ELSE encode({sql}) END"
        case "int32" | "int64":
            number = _plain_number(sql, form)
            whole = f"regexp_extract({number}, '[+-]?[0-9]+')"
            return f"CASE WHEN {_matches(number, WHOLE_NUMBER)} THEN TRY_CAST({whole} AS {type_name(dtype)}) END"
        case "float32" | "float64":
            number = _plain_number(sql, form)
            stripped, most = f"trim({number}, {_BLANKS})", WHOLE[dtype.name]
            value = f"TRY_CAST({stripped} AS {type_name(dtype)})"
            held = f"TRY_CAST({stripped} AS HUGEINT) BETWEEN -{most} AND {most}"
            kept = f"abs({value}) < {most} OR NOT {_matches(number, INTEGER)} OR {held}"
            finite = f"CASE WHEN isfinite({value}) AND ({kept}) THEN {value} END"
            named = f"WHEN {_matches(number, NAMED_NUMBER)} THEN {value}"
            quick = f"WHEN {_matches(number, _QUICK_NUMBERS[dtype.name])} THEN CAST({number} AS {type_name(dtype)})"
            return f"CASE {quick} WHEN {_matches(number, NUMBER)} THEN {finite} {named} END"
        case "bool":
            text = f"lower(trim({sql}, {_BLANKS}))"
            true, false = (", ".join(map(text_sql, texts)) for texts in (TRUE, FALSE))
            return f"CASE WHEN {text} IN ({true}) THEN TRUE WHEN {text} IN ({false}) THEN FALSE END"
        case "timestamp":
            return f"make_timestamp({_micros(sql, form.times, 'NULL', zone)})"
        case "date":
            wall = _wall(sql, form.dates)
            fine = f"{wall} = CAST({wall} AS DATE) AND NOT {_finer(sql, form.dates)}"
            other = f"WHEN {fine} AND CAST({wall} AS DATE) BETWEEN {_DAYS} THEN CAST({wall} AS DATE)"
            quick = f"WHEN {_matches(sql, _QUICK_DAY)} THEN TRY_CAST({sql} AS DATE)" if form.dates == ISO else ""
            return f"CASE {quick} {other} END"
    raise AssertionError(dtype)


def cast_time(sql: str, form: CSVFormat, zone: LocalTimes | None = None) -> str:
    """The time in a text (in the zone where no offset is written), finer ones rounded up; else NULL."""
    return f"make_timestamp({_micros(sql, form.times, '1', zone)})"


def time_kind(sql: str, form: CSVFormat, zone: LocalTimes) -> str:
    """Whether a time without an offset is in an hour that a clock change repeats, or skips; else 0."""
    kind = bound_sql(f"epoch_us({_wall(sql, form.times)})", lambda wall: kind_sql(wall, zone))
    return f"CASE WHEN {_part(sql, form.times, 'z')} = '' THEN {kind} ELSE 0 END" if form.times.has_offset else kind


_BLANKS = r"E' \t\n\r\f\x0b'"


def _matches(sql: str, pattern: str) -> str:
    return f"regexp_full_match({sql}, {text_sql(pattern)})"


def _plain_number(sql: str, form: CSVFormat) -> str:
    """A number with its decimal mark as a point and without what parts its thousands; NULL where it is not so."""
    if form.thousands is None and form.decimal == ".":
        return sql
    point = f"replace({sql}, {text_sql(form.decimal)}, '.')"
    if form.thousands is None:
        return f"CASE WHEN NOT contains({sql}, '.') THEN {point} END"
    good = f"{_matches(sql, grouped(form.thousands, form.decimal))} OR {_matches(sql, NAMED_NUMBER)}"
    joined = f"replace(replace({sql}, {text_sql(form.thousands)}, ''), {text_sql(form.decimal)}, '.')"
    return f"CASE WHEN {good} THEN {joined} END"


def _part(sql: str, form: TimeFormat, directive: str) -> str:
    """What a directive stands for in a text; empty where it, or all, is not there."""
    names = ", ".join(text_sql(f"p{i}") for i in range(len(form.groups)))
    pattern = f"^(?:{form.pattern})$"
    return f"regexp_extract({sql}, {text_sql(pattern)}, [{names}])['p{form.groups.index(directive)}']"


def _finer(sql: str, form: TimeFormat) -> str:
    """Whether a time is between two microseconds."""
    return f"regexp_matches(substr({_part(sql, form, 'f')}, 7), '[1-9]')" if "f" in form.groups else "FALSE"


def _micros(sql: str, form: TimeFormat, finer: str, zone: LocalTimes | None) -> str:
    """The instant in microseconds since 1970; NULL where there is none.

    Args:
        sql: the text.
        form: how it is written.
        finer: what is added where it is between two microseconds.
        zone: of times without an offset; None: UTC.
    """
    wall = f"epoch_us({_wall(sql, form)})"
    local = wall if zone is None else bound_sql(wall, lambda wall: instant_sql(wall, zone))
    micros = local
    if form.has_offset:
        written = _part(sql, form, "z")
        micros = f"CASE WHEN {written} = '' THEN {local} ELSE {wall} - {_offset(written)} END"
    micros = f"({micros})"
    if "f" in form.groups:
        micros += f" + CASE WHEN {_finer(sql, form)} THEN {finer} ELSE 0 END"
    quick = "" if form != ISO else _quick_micros(sql, zone)
    return f"CASE {quick} WHEN {micros} BETWEEN {FIRST_MICROS} AND {LAST_MICROS} THEN {micros} END"


def _quick_micros(sql: str, zone: LocalTimes | None) -> str:
    cast = f"epoch_us(TRY_CAST({sql} AS TIMESTAMP))"
    if zone is None:
        return f"WHEN {_matches(sql, f'{_QUICK_TIME}Z?')} THEN {cast}"
    local = bound_sql(cast, lambda wall: instant_sql(wall, zone))
    return f"WHEN {_matches(sql, _QUICK_TIME)} THEN {local} WHEN {_matches(sql, f'{_QUICK_TIME}Z')} THEN {cast}"


def _offset(zone: str) -> str:
    digits = f"replace(substr({zone}, 2), ':', '')"
    minutes = f"CAST(left({digits}, 2) AS BIGINT) * 60 + CAST(rpad(substr({digits}, 3), 2, '0') AS BIGINT)"
    sign = f"CASE WHEN left({zone}, 1) = '-' THEN -60000000 ELSE 60000000 END"
    return f"CASE WHEN {zone} IN ('Z', 'z', 'UTC') THEN 0 ELSE ({minutes}) * {sign} END"


def _wall(sql: str, form: TimeFormat) -> str:
    """The time as it is written, without its offset, cut to microseconds; NULL where it is none."""

    def two(directive: str) -> str:
        return f"lpad({_part(sql, form, directive)}, 2, '0')" if directive in form.groups else "'00'"

    def number(directive: str) -> str:
        return f"TRY_CAST({_part(sql, form, directive)} AS BIGINT)"

    year = _part(sql, form, "Y") if "Y" in form.groups else ""
    if "y" in form.groups:
        short = _part(sql, form, "y")
        year = f"CASE WHEN {short} >= '69' THEN '19' ELSE '20' END || {short}"
    hour = two("H")
    if "I" in form.groups:
        late = f"CASE WHEN upper({_part(sql, form, 'p')}) = 'PM' THEN 12 ELSE 0 END"
        counted = f"lpad(CAST({number('I')} % 12 + {late} AS VARCHAR), 2, '0')"
        hour = f"CASE WHEN {number('I')} BETWEEN 1 AND 12 THEN {counted} END"
    fraction = f"rpad(left({_part(sql, form, 'f')}, 6), 6, '0')" if "f" in form.groups else "'000000'"
    if "j" in form.groups:
        first = f"TRY_CAST({year} || '-01-01' AS DATE)"
        there = f"{first} + CAST({number('j')} - 1 AS INTEGER)"
        within = f"{number('j')} BETWEEN 1 AND 366 AND year({there}) = year({first})"
        day = f"CASE WHEN {within} THEN CAST({there} AS VARCHAR) END"
    else:
        month = two("m")
        for directive, names in (("b", [name[:3] for name in MONTHS]), ("B", MONTHS)):
            if directive in form.groups:
                listed = ", ".join(map(text_sql, names))
                place = f"list_position([{listed}], lower({_part(sql, form, directive)}))"
                month = f"lpad(CAST({place} AS VARCHAR), 2, '0')"
        day = f"{year} || '-' || {month} || '-' || {two('d')}"
    # 24:00 is DuckDB's next day, and no hour of strftime's
    good = f"CASE WHEN {hour} < '24' THEN {hour} END"
    return (
        f"TRY_CAST({day} || ' ' || {good} || ':' || {two('M')} || ':' || {two('S')} || '.' || {fraction} AS TIMESTAMP)"
    )


def with_offset(text: str, form: CSVFormat, table: str, row: str) -> str:
    """The first row whose time is written with its offset: (row, text)."""
    return f"SELECT {row}, {text} FROM {table} WHERE {_part(text, form.times, 'z')} <> '' ORDER BY {row} LIMIT 1"


def present(text: str, nulls: Sequence[str]) -> str:
    """Whether a text is there, and is none of those that mean NULL."""
    return f"{text} NOT IN ({', '.join(map(text_sql, nulls))})" if nulls else f"{text} IS NOT NULL"


def misfits(text: str, cast: str, table: str, row: str, nulls: Sequence[str] = ()) -> str:
    """The first row whose text is there, and is none of those that mean NULL, but has no value: (row, text)."""
    there = present(text, nulls)
    return f"SELECT {row}, {text} FROM {table} WHERE {there} AND ({cast}) IS NULL ORDER BY {row} LIMIT 1"
