"""Write docs/cli.md from the command itself; with --check, fail where the page differs from it."""

import argparse
import difflib
import importlib
import inspect
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

PAGE = Path(__file__).parent.parent / "docs" / "cli.md"
HEAD = """# The `headwater` command

Every command takes `--json`, `--project PATH` and `--debug`, before its name or after it. Its exit code is 0, 1
(failed), 2 (wrong use) or 130 (interrupted). An error is one message on standard error, without a traceback
unless `--debug`; with `--json` it is an object there: `{"error": {"type": …, "message": …, "problems": […]}}`.
Tables are drawn for people, and are plain, whole text in a pipe; `--json` is for machines. `headwater
--install-completion` makes the shell complete commands, options, and the names of views, features and versions.

This page is written by `make docs` from the command's own help.
"""
SHARED = ("json", "project", "debug")


def root_command() -> Any:
    """The command that `headwater.cli` holds: its `app`, or the one Typer there."""
    module = importlib.import_module("headwater.cli")
    app = getattr(module, "app", None) or next(v for v in vars(module).values() if isinstance(v, typer.Typer))
    return typer.main.get_command(app) if isinstance(app, typer.Typer) else app


def walk(command: Any, context: Any) -> Iterator[tuple[Any, Any]]:
    """The command and all below it, in the order of its help."""
    yield command, context
    if hasattr(command, "list_commands"):
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            if not child.hidden:
                yield from walk(child, child.context_class(child, info_name=name, parent=context))


def cell(text: object) -> str:
    """Text that is safe in a Markdown table."""
    return " ".join(str(text or "").split()).replace("|", "\\|")


def rows(command: Any, context: Any) -> Iterator[str]:
    """One table row for each parameter, arguments first."""
    left_out = ("help", *SHARED) if context.parent else ("help",)
    shown = [p for p in command.get_params(context) if not getattr(p, "hidden", False) and p.name not in left_out]
    for parameter in sorted(shown, key=lambda p: p.param_type_name != "argument"):
        record = parameter.get_help_record(context)
        if record:
            yield f"| `{cell(record[0])}` | {cell(record[1])} |"


def section(command: Any, context: Any) -> str:
    """The Markdown of one command."""
    lines = [f"## {context.command_path}", ""]
    if command.help:
        lines += [inspect.cleandoc(command.help).replace("\f", "").strip(), ""]
    usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
    lines += ["```", usage, "```"]
    table = list(rows(command, context))
    if table:
        lines += ["", "| argument, option | meaning |", "|---|---|", *table]
    return "\n".join(lines) + "\n"


def page() -> str:
    """All of docs/cli.md."""
    root = root_command()
    context = root.context_class(root, info_name="headwater")
    return "\n".join([HEAD, *(section(*found) for found in walk(root, context))])


def main() -> int:
    """Write the page, or compare it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 where the page differs")
    check = parser.parse_args().check
    new = page()
    if not check:
        PAGE.parent.mkdir(exist_ok=True)
        PAGE.write_text(new, encoding="utf-8")
        return 0
    old = PAGE.read_text(encoding="utf-8") if PAGE.exists() else ""
    if old == new:
        return 0
    sys.stderr.writelines(
        difflib.unified_diff(old.splitlines(True), new.splitlines(True), "docs/cli.md", "the command's help")
    )
    sys.stderr.write("docs/cli.md differs from the command's help: run 'make docs'\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
