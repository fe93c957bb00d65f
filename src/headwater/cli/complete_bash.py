"""Completion in bash, which ends a word at each `:` and `=`: words are put together before, and cut after.

Of `weather:te` bash gives the words `weather`, `:` and `te`, and puts an answer in the place of the last one alone.
"""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterator, MutableMapping, Sequence

_BREAKS = frozenset(":=")


def joined(words: Sequence[str], current: int) -> tuple[list[str], str]:
    """The words up to the current one as they were typed, and what of the last one stands before bash's own.

    Args:
        words: as bash parts them.
        current: the number of the word that is completed.
    """
    whole: list[str] = []
    before = ""
    for i, word in enumerate(words[: current + 1]):
        goes_on = i > 1 and (_is_break(word) or (_is_break(words[i - 1]) and (word or i < current)))
        before = (whole[-1] if not _is_break(word) else whole[-1] + word) if goes_on else ""
        if goes_on:
            whole[-1] += word
        else:
            whole.append(word)
    return whole, before


def _is_break(word: str) -> bool:
    return bool(word) and set(word) <= _BREAKS


def cut(answer: str, before: str) -> str:
    """An answer without what stands on the line already; of `--option=` nothing is part of answers."""
    if before.startswith("--"):
        before = before.partition("=")[2]
    return answer.removeprefix(before)


@contextlib.contextmanager
def completing(environ: MutableMapping[str, str] = os.environ) -> Iterator[None]:
    """Where bash asks for completions, give the words whole and cut the answers; else nothing is done."""
    words, current = environ.get("COMP_WORDS", "").split("\n"), environ.get("COMP_CWORD", "")
    if environ.get("_HEADWATER_COMPLETE") != "complete_bash" or not current.isdigit() or int(current) >= len(words):
        yield
        return
    whole, before = joined(words, int(current))
    environ["COMP_WORDS"], environ["COMP_CWORD"] = "\n".join(whole), str(len(whole) - 1)
    answers = io.StringIO()
    try:
        with contextlib.redirect_stdout(answers):
            yield
    finally:
        for answer in answers.getvalue().splitlines():
            print(cut(answer, before))
