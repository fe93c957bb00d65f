"""Run the Python snippets of a page in order, and compare what they print with the output shown below them.

In a page, a block fenced as `python` is run; a block fenced as `text` right after it is what it prints. All blocks of
a page share one namespace and the working folder.

    python scripts/doc_snippets.py docs/history.md            # run a page, and show where its outputs differ
    python scripts/doc_snippets.py --write docs/history.md    # write the outputs anew
"""

from __future__ import annotations

import contextlib
import io
import re
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_BLOCK = re.compile(
    r"^```python\n(?P<code>.*?)^```\n(?:\n?(?P<fence>```text\n)(?P<shown>.*?)^```\n)?", re.MULTILINE | re.DOTALL
)


@dataclass(frozen=True)
class Snippet:
    """One block of a page.

    Attributes:
        code: what is run.
        line: the line of the page that it starts on.
        shown: the output that the page shows; None where it shows none.
        span: where in the page that output stands.
    """

    code: str
    line: int
    shown: str | None
    span: tuple[int, int]


def snippets(page: str) -> list[Snippet]:
    """The blocks of a page, in order."""
    return [
        Snippet(found["code"], page.count("\n", 0, found.start("code")) + 1, found["shown"], found.span("shown"))
        for found in _BLOCK.finditer(page)
    ]


def run(path: Path, namespace: dict[str, Any]) -> Iterator[tuple[Snippet, str]]:
    """Run the blocks of a page one by one; a failure's traceback names the page and its line.

    Yields:
        Each block and what it printed, without spaces at the ends of lines.
    """
    for snippet in snippets(path.read_text(encoding="utf-8")):
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile("\n" * (snippet.line - 1) + snippet.code, str(path), "exec"), namespace)
        yield snippet, "".join(f"{line.rstrip()}\n" for line in printed.getvalue().rstrip().splitlines())


def _write(path: Path, results: list[tuple[Snippet, str]]) -> None:
    page = path.read_text(encoding="utf-8")
    for snippet, printed in reversed(results):
        if snippet.shown is not None:
            start, end = snippet.span
            page = page[:start] + printed + page[end:]
    path.write_text(page, encoding="utf-8")


def main() -> None:
    """Run the pages named on the command line, each in a folder of its own."""
    pages = [Path(name).resolve() for name in sys.argv[1:] if name != "--write"]
    for path in pages:
        with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
            data = Path(__file__).resolve().parents[1] / "demo" / "data"
            if data.is_dir():
                Path("data").symlink_to(data)
            results = []
            for snippet, printed in run(path, {"__name__": "page"}):
                results.append((snippet, printed))
                if printed != (snippet.shown or ""):
                    print(f"{path.name}:{snippet.line} prints\n{printed}")
        if "--write" in sys.argv:
            _write(path, results)


if __name__ == "__main__":
    main()
