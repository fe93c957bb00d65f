"""The questions of `headwater compare --interactive`: one for each requirement, asked until the answer is possible."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Mapping
from typing import Any

import typer

from headwater.advisor.labels import QUESTIONS
from headwater.errors import UsageError

NONE = "none"


def ask(
    known: Mapping[str, Any], read: Callable[[str, str], Any], check: Callable[[Mapping[str, Any]], object]
) -> dict[str, Any]:
    """Asks for every requirement on standard error; Enter keeps what stands in brackets, `none` takes it away.

    Args:
        known: what is known already: the defaults.
        read: the value of an answer's text, by the requirement's name.
        check: refuses requirements that are not possible.

    Returns:
        What is asked for.
    """
    typer.echo(f"Enter keeps the value in brackets; '{NONE}' asks for nothing.", err=True)
    asked = dict(known)
    for name, question in QUESTIONS.items():
        while True:
            default = _text(known[name]) if name in known else "no requirement"
            answer = _answer(f"{question} [{default}]: ")
            if answer in ("", default):
                break
            if answer.lower() in (NONE, "no requirement"):
                asked.pop(name, None)
                break
            try:
                value = read(name, answer)
                check({name: value})
            except UsageError as bad:
                typer.echo(f"  {bad}", err=True)
                continue
            asked[name] = value
            break
    return asked


def _answer(prompt: str) -> str:
    """A line from standard input; the question goes to standard error, so that the answer can be piped."""
    try:
        with contextlib.redirect_stdout(sys.stderr):
            return input(prompt).strip()
    except EOFError:
        raise typer.Abort from None


def _text(value: Any) -> str:
    if isinstance(value, Mapping):
        return ",".join(f"{name}={weight:.10g}" for name, weight in value.items())
    if isinstance(value, (list, tuple)):
        return ",".join(value)
    return f"{value:.10g}" if isinstance(value, (int, float)) else str(value)
