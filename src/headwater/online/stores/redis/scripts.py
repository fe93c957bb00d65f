"""The scripts that Redis runs: Lua files beside this one, with the functions and numbers that they share.

The guard of `guard.merge` and the compare of `compare_and_put` are atomic in the server that way.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files

from headwater.online.rows import codec
from headwater.online.rows.keys import META_PREFIX

MARKERS = META_PREFIX + b"marks"
"""A hash: `s` the number of the last marker, `n` its word, and of the last some thousand number → word.

Each script leaves one behind its rows. Who has seen a marker can tell after a restart, when the server's own ids are
gone, whether what was written before it is there.
"""
KEPT_MARKERS = 8192
NEWER, LATE = "HWNEWER", "HWLATE"

_NUMBERS = {
    "KEPT_MARKERS": KEPT_MARKERS,
    "VERSION": codec.VERSION_BYTE,
    "NEWEST": codec.MAGIC | 0x0F,
    "HEADER_SIZE": codec.HEADER_SIZE,
    "EMPTIED": codec.EMPTIED,
    "DELETED": codec.DELETED,
    "SEQUENCE": codec.SEQUENCE.start,
    "EVENT": codec.EVENT.start,
    "TOMBSTONE_END": codec.TOMBSTONE.stop,
    "OLD_VERSION": codec.OLD_VERSION_BYTE,
    "OLD_HEADER_SIZE": codec.OLD_HEADER_SIZE,
    "OLD_SEQUENCE": 6,
    "OLD_THROUGH": 14,
    "OLD_EVENT": 22,
    "WINDOW_VERSION": codec.WINDOW_VERSION_BYTE,
    "WINDOW_NEWEST": codec.WINDOW_MAGIC | 0x0F,
    "WINDOW_HEADER_SIZE": codec.WINDOW_HEADER_SIZE,
}


@dataclass(frozen=True)
class Script:
    """A script and the name that a server knows it by.

    Attributes:
        text: in Lua.
        sha: the name, once it was loaded.
    """

    text: bytes
    sha: bytes = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "sha", hashlib.sha1(self.text).hexdigest().encode())


@cache
def load(*names: str) -> Script:
    """The script of some Lua files, one behind the other: what the last one needs comes before it."""
    words = {"NEWER": f"'{NEWER}'", "LATE": f"'{LATE}'", **{name: str(number) for name, number in _NUMBERS.items()}}
    head = f"local {', '.join(words)} = {', '.join(words.values())}\n"
    folder = files("headwater.online.stores.redis") / "lua"
    return Script((head + "\n".join((folder / f"{name}.lua").read_text("utf-8") for name in names)).encode())


PUT = load("steps", "put")
COMPARE = load("steps", "compare_and_put")
PUT_META = load("steps", "put_meta")
EPOCH = load("steps", "epoch")
SHARD_READ = load("steps", "shard", "shard_read")
SHARD_WRITE = load("steps", "shard", "shard_write")
SHARD_RAISE = load("steps", "shard_raise")
