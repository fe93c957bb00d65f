"""Whether a class has the methods of its base and of the protocols it fulfils, with the same arguments."""

from __future__ import annotations

import inspect
from typing import Any


def differing_signatures(kind: type[Any], *bases: type[Any]) -> list[str]:
    """The methods of a class that cannot be called as a base says; a line each, empty where all can be.

    A method may take more than its base's where what it adds has a default. What is called by position must have the
    same names in the same order, what is called by name the same names; defaults must be equal.

    Args:
        kind: the class.
        bases: base classes and protocols; a protocol counts where the class has all of its methods.
    """
    return [
        line
        for base in bases
        if _is_meant(kind, base)
        for name, method in vars(base).items()
        if not name.startswith("_") and inspect.isfunction(_function(method))
        for line in _differences(kind, base, name)
    ]


def _is_meant(kind: type[Any], base: type[Any]) -> bool:
    methods = [name for name in vars(base) if not name.startswith("_") and callable(getattr(base, name))]
    return (
        issubclass(kind, base)
        if not getattr(base, "_is_protocol", False)
        else all(callable(getattr(kind, name, None)) for name in methods)
    )


def _function(method: Any) -> Any:
    return getattr(method, "__func__", method)


def _differences(kind: type[Any], base: type[Any], name: str) -> list[str]:
    theirs, ours = (inspect.signature(_function(inspect.getattr_static(one, name))) for one in (base, kind))
    wanted, given = theirs.parameters, ours.parameters
    where = f"{kind.__name__}.{name}{ours}"
    lines = []
    for place, parameter in enumerate(wanted.values()):
        own = given.get(parameter.name)
        if own is None:
            lines.append(f"{where}: takes no {parameter.name!r}, which {base.__name__}.{name} takes")
        elif own.kind is not parameter.kind:
            lines.append(f"{where}: {parameter.name!r} is {own.kind.description}, not {parameter.kind.description}")
        elif own.default != parameter.default:
            lines.append(f"{where}: {parameter.name!r} has another default than in {base.__name__}.{name}")
        elif parameter.kind is not inspect.Parameter.KEYWORD_ONLY and list(given)[place] != parameter.name:
            lines.append(f"{where}: {parameter.name!r} has another position than in {base.__name__}.{name}")
    variable = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    lines += [
        f"{where}: {own.name!r} has no default, and {base.__name__}.{name} does not take it"
        for own in given.values()
        if own.name not in wanted and own.default is inspect.Parameter.empty and own.kind not in variable
    ]
    return lines
