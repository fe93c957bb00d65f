"""Source text to a function: compiled in a namespace of its own, with the imports that are kept beside it."""

from __future__ import annotations
import __future__

import builtins
import linecache
from collections.abc import Callable, Iterable
from typing import Any

from headwater.definitions.function_source import name_of
from headwater.digests import blake2b
from headwater.errors import MissingExtra, OnDemandError, raised


def file_name(what: str, text: str) -> str:
    """What tracebacks call a function's source text."""
    return f"<{what} {blake2b(text.encode(), digest_size=4).hexdigest()}>"


def compiled(what: str, text: str, imports: Iterable[str]) -> Callable[..., Any]:
    """The function of a source text.

    Args:
        what: whose it is, for errors and tracebacks: `cold_start 1.0.0`.
        text: its source text.
        imports: the import statements that it uses.

    Raises:
        MissingExtra: a package that it imports is not installed.
        OnDemandError: the text cannot be compiled, or its imports fail.
    """
    name = file_name(what, text)
    space: dict[str, Any] = {"__builtins__": builtins, "__name__": name}
    for statement in imports:
        _run(what, statement, name, space)
    _run(what, text, name, space)
    # so that tracebacks show its lines
    linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)
    found: Callable[..., Any] = space[name_of(text)]
    return found


def _run(what: str, text: str, name: str, space: dict[str, Any]) -> None:
    try:
        # annotations are not evaluated: what they name is not kept
        exec(compile(text, name, "exec", __future__.annotations.compiler_flag, dont_inherit=True), space)
    except ModuleNotFoundError as missing:
        package = (missing.name or "").partition(".")[0]
        raise MissingExtra(
            f"{what}: its function needs {missing.name}, which is not installed here: pip install {package}"
        ) from missing
    except KeyboardInterrupt:
        raise
    except BaseException as bad:
        raise OnDemandError(f"{what}: its function cannot be compiled here ({raised(bad)})") from bad
