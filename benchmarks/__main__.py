"""All benchmarks, one after the other, and one table of all they found: `python -m benchmarks [--quick] [NAME…]`."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys

from benchmarks.figures import OUT, SEED, draw, markdown
from benchmarks.processes import ROOT

NAMES = (
    "startup",
    "install",
    "read_embedded",
    "read_beside_writes",
    "materialize",
    "history",
    "training_sets",
    "windows_history",
    "windows_online",
    "csv_files",
    "read_redis",
    "read_patterns",
    "materialize_redis",
    "on_demand",
    "read_dynamodb",
)


def main() -> int:
    """Run the scripts; 1 where one failed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which: {', '.join(NAMES)}; none: all")
    parser.add_argument("--quick", action="store_true", help="small sizes, in a minute or two: shows that all runs")
    parser.add_argument("--seed", type=int, default=SEED, help="of all random data")
    given = parser.parse_args()
    unknown = [name for name in given.names if name not in NAMES]
    if unknown:
        parser.error(f"no benchmark {', '.join(unknown)}; there are {', '.join(NAMES)}")
    names, failed = given.names or NAMES, []
    for name in names:
        command = [sys.executable, "-m", f"benchmarks.{name}", "--seed", str(given.seed), *["--quick"] * given.quick]
        if subprocess.run(command, cwd=ROOT).returncode:
            failed.append(name)
    documents = [json.loads((OUT / f"{name}.json").read_text()) for name in names if name not in failed]
    figures = [figure for document in documents for figure in document["figures"]]
    (OUT / "all.json").write_text(json.dumps(documents, indent=2) + "\n")
    (OUT / "all.md").write_text(markdown(figures))
    if len(names) > 1:
        draw("all figures" + (" (quick)" if given.quick else ""), figures)
    for name in failed:
        print(f"benchmarks.{name} failed; its error is above", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
