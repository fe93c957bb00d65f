"""Wrong arguments of definitions, in words that say how to write them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import msgspec

from headwater.deferred import deferred_pattern
from headwater.errors import brief, listing, nearest

_NAMED: re.Pattern[str] = deferred_pattern(r"(Missing required|Unexpected keyword) argument '(.*)'")


def _explained(kind: Any, bad: TypeError, given: tuple[Any, ...]) -> str | None:
    """What is wrong with the arguments of a struct; None where the error is of something else."""
    name, inner = kind.__name__, ("place", *getattr(kind, "not_compared", ()))
    fields = [field for field in msgspec.structs.fields(kind) if field.name not in inner]
    by_position = [field.name for field in fields if field.name in kind.__match_args__]
    by_name = [field.name for field in fields if field.name not in by_position]
    if str(bad) == "Extra positional arguments provided":
        count, extra = len(by_position), given[len(by_position) :]
        takes = f"{count or 'no'} positional argument{'' if count == 1 else 's'}"
        takes += f" ({', '.join(by_position)})" if count else ""
        form = [*by_position, *(f"{field}={_shown(value)}" for field, value in zip(by_name, extra, strict=False))]
        what = f"{name}() takes {takes}, but {len(given)} {'was' if len(given) == 1 else 'were'} given"
        return f"{what}; name the others: {name}({', '.join(form)})" if len(form) > count else what
    found = _NAMED.fullmatch(str(bad))
    if found is None:
        return None
    if found[1] == "Missing required":
        form = [f.name if f.name in by_position else f"{f.name}=…" for f in fields if f.required]
        return f"{name}() is missing the argument {found[2]!r}: {name}({', '.join(form)}, …)"
    names = [*by_position, *by_name]
    return f"{name}() has no argument {found[2]!r}{nearest(found[2], names)}; it has {listing(names)}"


def _shown(value: Any) -> str:
    return brief(value) if isinstance(value, (str, int, float)) else "…"


if TYPE_CHECKING:
    from msgspec import StructMeta

    ExplainsArguments = StructMeta
else:
    try:

        class ExplainsArguments(type(msgspec.Struct)):
            """The type of definitions: the error of a wrong call says what to write."""

            def __call__(cls, *given: Any, **named: Any) -> Any:
                try:
                    return super().__call__(*given, **named)
                except TypeError as bad:
                    said = _explained(cls, bad, given)
                    if said is None:
                        raise
                    raise TypeError(said) from None

    except TypeError:  # releases of msgspec whose metaclass has no subclasses: its own words
        ExplainsArguments = type(msgspec.Struct)
