"""`headwater compare`: options, files, questions, and what is drawn."""

import io
import json
import os
import pty
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from headwater.cli import main

ASKED = ["--max-latency-ms", "10", "--min-throughput-qps", "15000", "--freshness-minutes", "10"]
ASKED += ["--cost-preference", "low", "--need", "streaming", "--online-store", "redis", "--team-size", "3"]
ASKED += ["--allow-closed"]


@pytest.fixture(autouse=True)
def nowhere(tmp_path, monkeypatch):
    """A folder without a project."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def compare(capsys):
    """Exit code, standard output and standard error."""

    def run(*arguments):
        code = main(["compare", *map(str, arguments)])
        found = capsys.readouterr()
        return code, found.out, found.err

    return run


@pytest.fixture
def answered(compare):
    """The answer in JSON."""

    def run(*arguments):
        code, out, err = compare(*arguments, "--json")
        assert code == 0, err
        return json.loads(out)

    return run


def test_no_project_is_needed_and_nothing_is_left_behind(compare, nowhere):
    code, out, err = compare(*ASKED)
    assert code == 0 and err == "" and list(nowhere.iterdir()) == []
    assert out.startswith("Use tecton\n")


def test_each_requirement_has_an_option(answered):
    arguments = [*ASKED, "--flexibility-importance", ".5", "--vendor-risk-tolerance", "medium"]
    arguments += ["--offline-store", "snowflake,spark", "--offline-store", "bigquery", "--ops-skill", "high"]
    arguments += ["--budget-class", "medium", "--weight", "performance=.4", "--weight", "cost=.4,flexibility=.2"]
    found = answered(*arguments)
    assert found["requirements"] == {
        "max_latency_ms": 10,
        "min_throughput_qps": 15000,
        "freshness_minutes": 10,
        "cost_preference": "low",
        "flexibility_importance": 0.5,
        "vendor_risk_tolerance": "medium",
        "required_online_stores": ["redis"],
        "required_offline_stores": ["snowflake", "spark", "bigquery"],
        "needs": ["streaming"],
        "team_size": 3,
        "ops_skill": "high",
        "budget_class": "medium",
        "decision_weights": {"performance": 0.4, "cost": 0.4, "flexibility": 0.2},
        "allow_closed": True,
    }
    assert found["weights"]["performance"] == pytest.approx(0.4)


def test_what_is_drawn(compare):
    _, out, _ = compare(*ASKED)
    lines = [line.rstrip() for line in out.splitlines()]
    row = next(line for line in lines if line.startswith("custom "))
    assert re.search(r"█+▒+·+ +0\.\d{3} +0\.\d{3}-0\.\d{3} +\d+% +open$", row)
    for title in ("Score, of 1", "Score by criterion", "Fit", "Why", "Warnings", "What would change the answer"):
        assert title in lines
    assert any(re.match(r"need: streaming\* +met +met +unknown +met +missed +met$", line) for line in lines)
    assert any(re.match(r"cost +20% +- +- +\d+% +feast$", line) for line in lines)
    assert "\x1b" not in out


def test_nothing_qualifies_is_an_answer(compare):
    code, out, _ = compare("--online-store", "cosmosdb", "--need", "embedded", "--need", "open_source,managed")
    assert code == 0
    assert out.splitlines()[0] == "Nothing qualifies" or "once its open points have been checked" in out


def test_where_nothing_is_asked_for_it_says_what_to_ask(compare):
    code, out, _ = compare()
    assert code == 0 and "no requirements given" in out.splitlines()[0]
    assert "Minimum reads per second? (min_throughput_qps)" in out and "\nScore" not in out


def test_what_is_only_maintained_is_not_recommended(compare):
    _, out, _ = compare(*ASKED[:-1])
    assert out.startswith("Use feast\n") and "tecton is not recommended for a new start" in out


def test_a_file_of_requirements_and_options_before_it(answered, nowhere):
    (nowhere / "r.toml").write_text(
        'max_latency_ms = 50\nneeds = ["governance"]\nteam_size = 4\n[decision_weights]\ncost = 1\nflexibility = 1\n'
    )
    found = answered("--file", "r.toml", "--max-latency-ms", "20", "--need", "streaming", "--weight", "cost=3")
    assert found["requirements"] == {
        "max_latency_ms": 20,
        "needs": ["streaming"],
        "team_size": 4,
        "decision_weights": {"cost": 3, "flexibility": 1},
    }


def test_own_profiles_and_the_seed(answered, nowhere):
    (nowhere / "p.toml").write_text("[feast]\nserving_latency_p99_ms = 2\n")
    found = answered("--profiles", "p.toml", "--max-latency-ms", "5", "--seed", "7")
    assert found["detailed_analysis"]["feast"]["profile"]["serving_latency_p99_ms"] == 2
    assert found["sensitivity"]["seed"] == 7


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["--max-latency-ms", "fast"], 2, "--max-latency-ms"),
        (["--max-latency-ms", "-1"], 2, "max_latency_ms = -1.0: must be more than 0"),
        (["--cost-preference", "lo"], 2, "did you mean 'low'"),
        (["--need", "streming"], 2, "'streaming'"),
        (["--weight", "performance"], 2, "write performance=0.4"),
        (["--weight", "performance=much"], 2, "must be a number"),
        (["--weight", "preformance=1"], 2, "'performance'"),
        (["--weight", "cost=0"], 2, "at least one weight must be more than 0"),
        (["--flexibility-importance", "2"], 2, "from 0 to 1"),
        (["--flexibility-importance", ""], 2, "flexibility_importance"),
        (["--seed", "-1"], 2, "seed=-1"),
        (["--file", "none.toml"], 1, "none.toml: cannot be read: No such file or directory"),
        (["--profiles", "none.toml"], 1, "none.toml: cannot be read: No such file or directory"),
        (["--html", "none/report.html"], 1, "none/report.html: No such file or directory"),
    ],
)
def test_what_is_wrong_is_said(compare, arguments, code, says):
    found, out, err = compare(*arguments)
    assert (found, out) == (code, "") and says in err and "Traceback" not in err
    found, out, err = compare(*arguments, "--json")
    assert found == code and says in json.loads(err)["error"]["message"]


def test_a_page_is_written(compare, answered, nowhere):
    code, out, _ = compare(*ASKED, "--html", "report.html")
    assert code == 0 and out.endswith("wrote report.html\n")
    assert (nowhere / "report.html").read_text().startswith("<!DOCTYPE html>")
    assert answered(*ASKED, "--html", "again.html")["html"] == "again.html"


def test_questions_keep_ask_again_and_take_away(compare, nowhere, monkeypatch):
    (nowhere / "r.toml").write_text('max_latency_ms = 50\nteam_size = 4\nbudget_class = "low"\n')
    answers = ["10", "fast", "15,000", "", "lw", "low", "0.5", "", "redis, dynamodb", "", "streming", "streaming"]
    answers += ["none", "", "", "cost", "cost=1,performance=2"]
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n".join(answers) + "\n"))
    code, out, err = compare("--file", "r.toml", "--interactive", "--json")
    assert code == 0
    assert json.loads(out)["requirements"] == {
        "max_latency_ms": 10,
        "min_throughput_qps": 15000,
        "cost_preference": "low",
        "flexibility_importance": 0.5,
        "required_online_stores": ["redis", "dynamodb"],
        "needs": ["streaming"],
        "budget_class": "low",
        "decision_weights": {"cost": 1, "performance": 2},
    }
    assert "[50]" in err and "[no requirement]" in err
    for problem in ("must be a number", "cost_preference = 'lw'", "'streaming'", "write performance=0.4"):
        assert problem in err


def test_enter_alone_asks_for_nothing_and_an_end_of_input_is_told(compare, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n" * 13))
    code, out, _ = compare("--interactive", "--json")
    assert code == 0 and json.loads(out)["requirements"] == {}
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n"))
    code, out, err = compare("--interactive")
    assert code == 130 and out == "" and "interrupted" in err


def test_a_terminal_of_80_columns_shows_whole_lines():
    ours, theirs = pty.openpty()
    environment = {**os.environ, "COLUMNS": "80", "TERM": "xterm-256color"}
    environment.pop("NO_COLOR", None)
    command = [sys.executable, "-c", "import sys; from headwater.cli import main; sys.exit(main())", "compare", *ASKED]
    with subprocess.Popen(command, stdout=theirs, env=environment, stdin=subprocess.DEVNULL) as process:
        os.close(theirs)
        parts = []
        try:
            while part := os.read(ours, 65_536):
                parts.append(part)
        except OSError:  # Linux: the other end is closed
            pass
        assert process.wait(60) == 0
    os.close(ours)
    text = b"".join(parts).decode()
    plain = re.sub(r"\x1b\[[0-9;]*m", "", text)
    assert text != plain
    assert max(len(line.rstrip()) for line in plain.splitlines()) <= 80
    assert re.search(r"^databricks +█+▒+·* +0\.\d+ +0\.\d+-0\.\d+ +0% +out *\r?$", plain, re.MULTILINE)
    assert re.search(r"^team of 3 +met +met +missed +met +met +met *\r?$", plain, re.MULTILINE)


def test_an_output_without_blocks_gets_plain_bars():
    command = [sys.executable, "-c", "import sys; from headwater.cli import main; sys.exit(main())"]
    environment = {**os.environ, "PYTHONIOENCODING": "latin-1:replace"}
    done = subprocess.run([*command, "compare", *ASKED], capture_output=True, env=environment, check=True, timeout=60)
    assert re.search(rb"custom +\|?#+=+\.+", done.stdout)


def test_help_does_not_wait_for_the_advisor():
    script = "import sys; from headwater.cli import main; main(['compare', '--help']); print(sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    for module in ("numpy", "rich.table", "headwater.advisor.comparator", "headwater.advisor.requirements"):
        assert repr(module) not in done.stdout


PAGE = Path(__file__).parents[3] / "docs" / "advisor-cases.md"
SHOWN = re.findall(r"^```console\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("block", SHOWN)
def test_the_cases_of_the_page_are_what_the_command_says(compare, block):
    typed, _, shown = block.replace("\\\n", "").partition("\n")
    code, out, _ = compare(*shlex.split(typed.removeprefix("$ headwater compare")))
    lines = iter(line.rstrip() for line in out.splitlines())
    assert code == 0
    for line in shown.splitlines():
        assert line == "…" or line in lines, line
