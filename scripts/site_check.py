"""Check a built site: nothing on it is fetched from another host, and every public name has its entry."""

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
    """The addresses that a browser fetches with a page, and the page's anchors."""

    def __init__(self):
        super().__init__()
        self.fetched, self.anchors = [], set()

    def handle_starttag(self, tag, attrs):
        """Note what an element fetches and its anchor."""
        given = dict(attrs)
        if tag in FETCHED and not (tag == "link" and given.get("rel") in ("canonical", "next", "prev")):
            self.fetched.append(given.get(FETCHED[tag]) or "")
        if given.get("id"):
            self.anchors.add(given["id"])


def problems(site):
    """A line for each problem."""
    anchors = set()
    for path in sorted(site.rglob("*.html")):
        page = Page()
        page.feed(path.read_text(encoding="utf-8"))
        anchors |= page.anchors
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


if __name__ == "__main__":
    found = list(problems(Path(sys.argv[1])))
    print("\n".join(found), file=sys.stderr)
    sys.exit(bool(found))
