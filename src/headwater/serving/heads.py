"""Heads of requests that ask for a plain read: what is known of one once it was parsed, and those that come again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from headwater.serving.known_reads import KnownRead

END = b"\r\n\r\n"
_MOST_BYTES, _MOST_HEADS = 2_048, 1_024
"""Bytes of a head that is kept, and how many are: clients send few different ones, for each length of a body."""


class Head:
    """The head of a request for a plain read: JSON both ways, no session, a whole body and a connection that is kept.

    Attributes:
        headers: names in lower case, each once.
        request_id: that came with it; None: none did.
        length: of its body, bytes.
        prefix: what stood before the entities in the body that came last.
        known: what is known of bodies that begin so.
    """

    __slots__ = ("headers", "known", "length", "prefix", "request_id")

    def __init__(self, headers: Mapping[bytes, bytes], request_id: bytes | None, length: int) -> None:
        self.headers, self.request_id, self.length = headers, request_id, length
        self.prefix = b""
        self.known: KnownRead | None = None


class KnownHeads:
    """Heads that were parsed, by their bytes: the same bytes on a connection between two requests mean the same.

    They are dropped with each reading of the API keys, so that no key stays in memory that is not used any more.
    """

    def __init__(self) -> None:
        self._heads: dict[bytes, Head] = {}
        self._since: object = None

    def find(self, data: bytes, since: object) -> tuple[Head, bytes] | None:
        """The head of a whole request, and its body; None where it has to be parsed.

        Args:
            data: all that came.
            since: what the heads are kept with.
        """
        if since is not self._since:
            self._heads, self._since = {}, since
        end = data.find(END)
        head = self._heads.get(data[:end])
        if head is None or len(data) - end - len(END) != head.length:
            return None
        return head, data[end + len(END) :]

    def keep(self, data: bytes, head: Head) -> None:
        """Keep the head of a request that was parsed.

        Args:
            data: all that came: of a whole request nothing but its head and its body.
            head: its head.
        """
        end = data.find(END)
        if 0 < end <= _MOST_BYTES and len(data) - end - len(END) == head.length:
            if len(self._heads) >= _MOST_HEADS:
                self._heads.clear()
            self._heads[data[:end]] = head
