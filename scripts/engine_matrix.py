"""Write the support matrix in docs/engines.md from the gaps that the engines declare; with --check, compare them."""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from headwater.testing.gaps import ABILITIES, Gaps
from tests.engine_gaps import ENGINES

PAGE = Path(__file__).parent.parent / "docs" / "engines.md"
BEGIN, END = "<!-- written by scripts/engine_matrix.py -->\n", "<!-- end -->\n"


def cell(gaps: Gaps, ability: str) -> str:
    """What an engine says to an ability."""
    gap = gaps.of(ability)
    if gap is None:
        return "yes"
    return f"**{gap.mark}**" + (f": {gap.reason}" if gap.reason else "")


def matrix() -> str:
    """The table, in Markdown."""
    lines = [f"| | {' | '.join(ENGINES)} |", "|---" * (1 + len(ENGINES)) + "|"]
    for ability, meaning in ABILITIES.items():
        cells = [cell(gaps, ability) for gaps in ENGINES.values()]
        lines.append(f"| {meaning} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def with_matrix(page: str) -> str:
    """The page with the table as it is now."""
    before, found, rest = page.partition(BEGIN)
    _, ended, after = rest.partition(END)
    if not found or not ended:
        raise SystemExit(f"{PAGE}: the lines {BEGIN.strip()!r} and {END.strip()!r} are missing")
    return before + BEGIN + "\n" + matrix() + "\n" + END + after


def main() -> int:
    """Write the page, or compare it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 where the page differs")
    old = PAGE.read_text(encoding="utf-8")
    new = with_matrix(old)
    if not parser.parse_args().check:
        PAGE.write_text(new, encoding="utf-8")
    elif old != new:
        sys.stderr.write("docs/engines.md differs from the gaps in tests/engine_gaps.py: run 'make docs'\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
