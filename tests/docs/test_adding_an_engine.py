"""The page for those who add an engine names all that they can write."""

from pathlib import Path

import pytest

from headwater.offline.backend import Backend
from headwater.offline.words import Words

PAGE = Path(__file__).parents[2] / "docs" / "adding-an-engine.md"


@pytest.mark.parametrize("kind", [Backend, Words])
def test_every_member_is_in_the_page(kind):
    members = {name for name in (*vars(kind), *kind.__annotations__) if not name.startswith("_")}
    text = PAGE.read_text()
    assert not [name for name in sorted(members) if f"`{name}`" not in text and f"`{name}(" not in text]
