"""Check a built site: nothing is fetched from another host; public names have entries, classes their signatures."""

import re
import sys
from html.parser import HTMLParser
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import site_pages

FETCHED = {
    "link": "href",
    "script": "src",
    "img": "src",
    "iframe": "src",
    "source": "src",
    "video": "src",
    "use": "href",
}


class Page(HTMLParser):
    """The addresses that a browser fetches with a page, the page's anchors, and those that a signature follows."""

    def __init__(self):
        super().__init__()
        self.fetched, self.anchors, self.signed = [], set(), set()
        self._heading = ""

    def handle_starttag(self, tag, attrs):
        """Note what an element fetches and its anchor."""
        given = dict(attrs)
        if tag in FETCHED and not (tag == "link" and given.get("rel") in ("canonical", "next", "prev")):
            self.fetched.append(given.get(FETCHED[tag]) or "")
        if given.get("id"):
            self.anchors.add(given["id"])
        if re.fullmatch("h[1-6]", tag):
            self._heading = given.get("id") or ""
        if "doc-signature" in (given.get("class") or "").split():
            self.signed.add(self._heading)


def problems(site):
    """A line for each problem."""
    anchors, signed = set(), set()
    for path in sorted(site.rglob("*.html")):
        page = Page()
        page.feed(path.read_text(encoding="utf-8"))
        anchors |= page.anchors
        signed |= page.signed
        for address in page.fetched:
            if re.match(r"([a-z]+:)?//", address, re.IGNORECASE):
                yield f"{path}: fetches {address}"
    for path in sorted(site.rglob("*.css")):
        for address in re.findall(
            r"(?:url\(|@import)\s*[\"']?((?:https?:)?//[^\"')]+)", path.read_text(encoding="utf-8")
        ):
            yield f"{path}: fetches {address}"
    for name, path in site_pages.public_names().items():
        if path not in anchors:
            yield f"{name} has no entry ({path})"
        elif site_pages.is_made(path) and path not in signed:
            yield f"{name} has no signature ({path})"


if __name__ == "__main__":
    found = list(problems(Path(sys.argv[1])))
    print("\n".join(found), file=sys.stderr)
    sys.exit(bool(found))
