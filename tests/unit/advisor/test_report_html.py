"""The report in a browser: whole by itself, in light, in dark and on paper; what a profile says is never markup."""

import http.server
import re
import shutil
import struct
import subprocess
import threading
import zlib
from html.parser import HTMLParser
from pathlib import Path

import pytest

from headwater.advisor import report_html
from headwater.advisor.comparator import FeatureStoreArchitectureComparator
from headwater.errors import ConfigError

ASKED = {
    "max_latency_ms": 10,
    "min_throughput_qps": 15_000,
    "freshness_minutes": 10,
    "cost_preference": "low",
    "required_online_stores": ["redis"],
    "needs": ["streaming"],
    "team_size": 3,
    "allow_closed": True,
}
EVIL = "<script>document.title='owned'</script>\"'&"
LIGHT, DARK = 1, 0


def compared(asked, profiles=None, systems=None):
    return FeatureStoreArchitectureComparator(profiles).compare_architectures(asked, systems=systems, draws=500)


@pytest.fixture(scope="module")
def comparison():
    return compared(ASKED)


@pytest.fixture(scope="module")
def text(comparison):
    return report_html.page(comparison)


@pytest.fixture(scope="module")
def file(comparison, tmp_path_factory):
    return report_html.write(comparison, tmp_path_factory.mktemp("report") / "report.html")


def browse(url, profile, *options):
    """What a headless Chromium prints about a page; no host but this one can be reached."""
    program = shutil.which("chromium")
    assert program, "no chromium: run as root: apt-get install -y chromium (or make servers)"
    quiet = ["--disable-background-networking", "--disable-component-update", "--no-first-run", "--disable-sync"]
    dead = ["--proxy-server=127.0.0.1:9", "--proxy-bypass-list=127.0.0.1"]
    alone = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--user-data-dir={profile}"]
    command = [program, *alone, *quiet, *dead, *options, url]
    done = subprocess.run(command, capture_output=True, timeout=90, check=True)
    return done.stdout.decode()


class Tags(HTMLParser):
    """Every element and its attributes; and the text outside style."""

    def __init__(self, text):
        super().__init__()
        self.found, self.words = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.words.append(data)

    def all(self, tag):
        return [attributes for name, attributes in self.found if name == tag]


def pixels(png):
    """Rows of RGB bytes of an 8-bit PNG."""
    data, place, stream = png.read_bytes(), 8, b""
    while place < len(data):
        length, kind = struct.unpack(">I4s", data[place : place + 8])
        body = data[place + 8 : place + 8 + length]
        if kind == b"IHDR":
            width, height, depth, colour = struct.unpack(">IIBB", body[:10])
        stream += body if kind == b"IDAT" else b""
        place += length + 12
    size = {2: 3, 6: 4}[colour]
    assert depth == 8
    raw, stride, rows, above = zlib.decompress(stream), width * size, [], bytes(width * size)
    for y in range(height):
        how, *row = raw[y * (stride + 1) : (y + 1) * (stride + 1)]
        for i in range(stride if how else 0):
            a, b = row[i - size] if i >= size else 0, above[i]
            c = above[i - size] if i >= size else 0
            if how == 4:
                p = a + b - c
                near = min((abs(p - a), 0, a), (abs(p - b), 1, b), (abs(p - c), 2, c))[2]
            else:
                near = (0, a, b, (a + b) // 2)[how]
            row[i] = (row[i] + near) & 255
        rows.append([tuple(row[i : i + 3]) for i in range(0, stride, size)])
        above = row
    return rows


def test_every_part_is_there(text, comparison):
    tags = Tags(text)
    words = " ".join(tags.words)
    for part in ("Use tecton", "Why", "Total score", "Score by criterion", "Fit", "What would change the answer"):
        assert part in words
    for part in ("First places", "System by system", "Components", "Profiles", "Sources", "not stated"):
        assert part in words
    for sentence in comparison.recommendation_reasoning[1:]:
        assert sentence.removeprefix("Warning: ") in words
    assert "p99 up to 10 ms" in words and "need: streaming" in words
    assert words.count("unsourced claim") > 30
    for analysis in comparison.detailed_analysis.values():
        for source in (analysis.profile.sources.get("serving_latency_p99_ms"), *analysis.components.values()):
            assert source is None or source in words


def test_it_is_whole_by_itself(text):
    tags = Tags(text)
    assert not {tag for tag, _ in tags.found} & {"script", "img", "iframe", "object", "embed", "base", "form"}
    links = [
        v for _, attributes in tags.found for k, v in attributes.items() if k in ("href", "src", "srcset", "xlink:href")
    ]
    assert all(link.startswith("#") or link == "data:," for link in links)
    ids = {attributes["id"] for _, attributes in tags.found if "id" in attributes}
    assert {link[1:] for link in links if link.startswith("#")} <= ids
    assert not re.search(r"url\(|@import|@font-face|\son\w+=", text)


def test_charts_can_be_heard_and_tables_have_heads(text):
    tags = Tags(text)
    charts = tags.all("svg")
    assert len(charts) == 9
    ids = [attributes["id"] for _, attributes in tags.found if "id" in attributes]
    assert len(ids) == len(set(ids))
    for chart in charts:
        assert chart["role"] == "img" and set(chart["aria-labelledby"].split()) <= set(ids)
    assert len(tags.all("title")) == len(charts) + 1 and len(tags.all("desc")) == len(charts)
    assert all(head.get("scope") for head in tags.all("th"))
    assert len(tags.all("details")) == 3
    assert tags.all("html") == [{"lang": "en"}]


def test_verdicts_are_told_by_words_and_signs_not_by_colour_alone(text):
    pills = re.findall(r'class="pill (\w+)"><span aria-hidden="true">(.)</span> (\w+)<', text)
    assert {(kind, word) for kind, _, word in pills} == {(word, word) for word in ("met", "missed", "unknown")}
    assert {(word, sign) for _, sign, word in pills} == {("met", "✓"), ("missed", "✗"), ("unknown", "?")}


def test_a_browser_shows_it_and_asks_for_nothing_else(text, tmp_path):
    asked = []

    class Page(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_response(200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *arguments):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Page) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            found = browse(f"http://127.0.0.1:{server.server_port}/report", tmp_path, "--dump-dom")
        finally:
            server.shutdown()
            thread.join()
    assert asked == ["/report"]
    assert "<h1>Use tecton</h1>" in found and found.count("<svg") == 9


def test_light_and_dark_are_both_drawn(file, tmp_path):
    shots = {}
    for scheme in (LIGHT, DARK):
        shot = tmp_path / f"{scheme}.png"
        options = ["--window-size=700,420", f"--blink-settings=preferredColorScheme={scheme}", f"--screenshot={shot}"]
        browse(file.as_uri(), tmp_path / "profile", *options)
        shots[scheme] = pixels(shot)
    for rows in shots.values():
        assert len({pixel for row in rows for pixel in row}) > 50
    light, dark = (shots[scheme][1][1] for scheme in (LIGHT, DARK))
    assert min(light) > 220 and max(dark) < 60
    heading = {scheme: [pixel for row in rows[60:130] for pixel in row] for scheme, rows in shots.items()}
    assert min(map(sum, heading[LIGHT])) < 200 and max(map(sum, heading[DARK])) > 600


def test_it_prints(file, tmp_path):
    paper = tmp_path / "report.pdf"
    browse(file.as_uri(), tmp_path / "profile", f"--print-to-pdf={paper}", "--blink-settings=preferredColorScheme=0")
    data = paper.read_bytes()
    assert data.startswith(b"%PDF") and len(data) > 30_000
    assert len(re.findall(rb"/Type\s*/Page\b", data)) >= 3


def test_a_narrow_screen_needs_no_sideways_scrolling(text, tmp_path):
    told = "<script>parent.postMessage(document.documentElement.scrollWidth, '*')</script>"
    (tmp_path / "page.html").write_text(text + told)
    (tmp_path / "frame.html").write_text(
        "<script>onmessage = told => document.title = 'width ' + told.data</script>"
        '<iframe src="page.html" width="360" height="640" style="border:0"></iframe>'
    )
    options = ["--dump-dom", "--virtual-time-budget=3000"]
    assert "<title>width 360</title>" in browse((tmp_path / "frame.html").as_uri(), tmp_path / "profile", *options)


def test_what_a_profile_says_is_never_markup(tmp_path):
    own = {
        "setup_complexity": "low",
        "operational_overhead": "low",
        "cost_model": "infrastructure_only",
        "flexibility": "high",
        "lock_in": "low",
        "time_to_market": "low",
        "budget_class": "low",
        "ops_skill": "low",
        "serving_latency_p99_ms": 1,
        "online_stores": [EVIL],
        "capabilities": [EVIL],
        "status": EVIL + " is deprecated",
        "measured": [EVIL],
        "components": {"serving_layer": EVIL},
        "sources": {"serving_latency_p99_ms": EVIL},
    }
    asked = {"max_latency_ms": 2, "needs": [EVIL], "required_online_stores": [EVIL], "allow_closed": True}
    comparison = compared(asked, {EVIL: own})
    page = report_html.page(comparison)
    assert comparison.recommendation == EVIL
    assert "<script" not in page and "script" not in {tag for tag, _ in Tags(page).found}
    file = report_html.write(comparison, tmp_path / "evil.html")
    assert "owned</title>" not in browse(file.as_uri(), tmp_path / "profile", "--dump-dom")


@pytest.mark.parametrize(
    ("asked", "systems", "says"),
    [
        ({}, None, "no requirements given"),
        (
            {"vendor_risk_tolerance": "low", "decision_weights": {"vendor_lock_in_risk": 1}},
            None,
            "are tied for first place",
        ),
        ({"needs": ["embedded"], "required_online_stores": ["cosmosdb"]}, ["feast", "tecton"], "Nothing qualifies"),
        ({"max_latency_ms": 10}, ["feast"], "Use feast"),
        ({"needs": ["streaming"]}, ["custom"], "custom, once its open points have been checked"),
        ({"decision_weights": {"cost": 1}, "cost_preference": "premium", "allow_closed": True}, None, "Use tecton"),
    ],
)
def test_every_kind_of_answer_has_a_page(asked, systems, says):
    page = report_html.page(compared(asked, systems=systems))
    assert says in page
    assert "None" not in re.sub(r"<style>.*?</style>", "", page, flags=re.DOTALL)


def test_a_page_is_written_whole_or_not_at_all(comparison, tmp_path, monkeypatch):
    target = tmp_path / "report.html"
    target.write_text("what stood there")

    def full(self, place):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(ConfigError, match=r"cannot be written to .*report\.html: No space left on device"):
        report_html.write(comparison, target)
    assert target.read_text() == "what stood there"
    assert list(tmp_path.iterdir()) == [target]


def test_a_place_that_cannot_be_written_is_named(comparison, tmp_path):
    with pytest.raises(ConfigError, match=r"nowhere/report\.html: No such file or directory"):
        report_html.write(comparison, tmp_path / "nowhere" / "report.html")
    with pytest.raises(ConfigError, match="it is a folder"):
        report_html.write(comparison, tmp_path)
    with pytest.raises(ConfigError):
        report_html.write(comparison, "report\0.html")
    (tmp_path / "real.html").touch()
    (tmp_path / "link.html").symlink_to("real.html")
    report_html.write(comparison, tmp_path / "link.html")
    assert (tmp_path / "link.html").is_symlink() and (tmp_path / "real.html").stat().st_size > 10_000
