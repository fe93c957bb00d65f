"""The pages of an LMDB data file, read without LMDB, which ends the process where a page is missing or makes no sense.

LMDB maps the file into memory and trusts it: a page beyond the end of the file is a SIGBUS, one that was overwritten
may be anything from an error to an abort. So a file that nobody is known to have looked at is looked at here first,
page by page, with reads that fail as other reads do.

The layout is that of LMDB 0.9 and 1.0 on 64-bit hosts, in the byte order of the host: a header of 16 or 24 bytes a page
(number, …, flags, and the bounds of its free space), the offsets of its nodes, and the nodes, which in a branch are the
numbers of pages below, in a leaf keys and values.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from operator import le, lt
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from headwater.values import Value

if TYPE_CHECKING:
    from numpy.typing import NDArray

    _Ints = NDArray[np.int64]

MAGIC = 0xBEEFC0DE
METAS = 2
HEADER = 4_096
"""Bytes from the start of a file that hold its first meta page's facts, whatever the size of its pages."""

_BATCH = 4 << 20
_VERSIONS = {16: 1, 24: 3}
"""Size of a page's header → the version of the format that has it."""
_BRANCH, _LEAF, _OVERFLOW, _META = 1, 2, 4, 8
_BIG = 1
_NONE = (1 << 64) - 1
_NODE = 8
_TAIL = 1 << 20
_MAX_KEY = 511

_ORDER = sys.byteorder


class Damaged(Exception):
    """The file is not what LMDB left; the text says what is wrong."""


class Tree(Value, frozen=True):
    """What a meta page says of one of its two trees."""

    flags: int
    depth: int
    branches: int
    leaves: int
    overflows: int
    entries: int
    root: int


class Meta(Value, frozen=True):
    """A meta page: one of the two last committed states."""

    header: int
    page_size: int
    free: Tree
    main: Tree
    last_page: int
    transaction: int

    @property
    def size(self) -> int:
        """Bytes of a file that holds every page that was ever used."""
        return (self.last_page + 1) * self.page_size


def read_metas(descriptor: int) -> tuple[Meta, Meta]:
    """Both meta pages of a data file.

    Raises:
        Damaged: it is empty, cut short within them, or no data file of LMDB's.
        OSError: it cannot be read.
    """
    first = os.pread(descriptor, HEADER, 0)
    if not first:
        raise Damaged("data.mdb is empty")
    header = next((size for size in _VERSIONS if _word(first, size, 4) == MAGIC), 0)
    if not header:
        raise Damaged("data.mdb is not an LMDB file")
    page_size = _word(first, header + 24, 4)
    if not 256 <= page_size <= 1 << 16 or page_size & (page_size - 1):
        raise Damaged(f"data.mdb has pages of {page_size} bytes")
    second = os.pread(descriptor, HEADER, page_size)
    return _meta(first, 0, header, page_size), _meta(second, 1, header, page_size)


def _word(data: bytes, offset: int, size: int) -> int:
    return int.from_bytes(data[offset : offset + size], _ORDER)


def _meta(page: bytes, number: int, header: int, page_size: int) -> Meta:
    at = header + 24
    known = (
        len(page) >= header + 136
        and _word(page, 0, 8) == number
        and _word(page, header - 6, 2) & _META
        and _word(page, header, 4) == MAGIC
        and _word(page, header + 4, 4) & 0xFFFF == _VERSIONS[header]
        and _word(page, at, 4) == page_size
    )
    if not known:
        raise Damaged(f"meta page {number} of data.mdb is cut short or overwritten")
    return Meta(
        header,
        page_size,
        _tree(page, at),
        _tree(page, at + 48),
        _word(page, at + 96, 8),
        _word(page, at + 104, 8),
    )


def _tree(page: bytes, at: int) -> Tree:
    flags, depth = _word(page, at + 4, 2), _word(page, at + 6, 2)
    return Tree(flags, depth, *(_word(page, at + 8 * i, 8) for i in range(1, 6)))


def check_pages(descriptor: int, meta: Meta) -> None:
    """Look at every page that a transaction can reach from a meta page, and at the list of free ones.

    Args:
        descriptor: of the data file.
        meta: that of a state that no writer may write over meanwhile (one that a reader holds, or under the lock).

    Raises:
        Damaged: a page is missing, is not what another one says it is, or is named twice.
        OSError: the file cannot be read.
    """
    walk = _Walk(descriptor, meta)
    walk.tree(meta.main)
    walk.tree(meta.free, free=True)
    walk.check_free()


class Reached(Value, frozen=True):
    """The pages that a transaction can reach, by what they are.

    Attributes:
        used: whether each page of the file is one of them.
        branches, leaves: the numbers of those that have nodes; the others are of long values.
    """

    used: NDArray[np.bool_]
    branches: list[int]
    leaves: list[int]


def reached_pages(descriptor: int, meta: Meta) -> Reached:
    """The pages that a transaction can reach from a meta page; arguments and errors as `check_pages`."""
    walk = _Walk(descriptor, meta)
    walk.tree(meta.main)
    walk.tree(meta.free, free=True)
    return Reached(walk.used, walk.kinds[_BRANCH], walk.kinds[_LEAF])


class _Level(msgspec.Struct):
    """The pages of one level of a tree, from left to right."""

    pages: _Ints
    children: _Ints = msgspec.field(default_factory=lambda: np.empty(0, np.int64))
    counts: _Ints = msgspec.field(default_factory=lambda: np.empty(0, np.int64))
    separators: list[bytes] = msgspec.field(default_factory=list)


class _Keys(msgspec.Struct):
    """The first and the last key of each leaf, from left to right, and how many there are in all."""

    first: list[bytes] = msgspec.field(default_factory=list)
    last: list[bytes] = msgspec.field(default_factory=list)
    count: int = 0

    def add(self, first: list[bytes], last: list[bytes], count: int) -> None:
        """Add those of further leaves."""
        self.first += first
        self.last += last
        self.count += count


class _Walk:
    def __init__(self, descriptor: int, meta: Meta) -> None:
        self._file, self._meta = descriptor, meta
        self._base = 0 if meta.header == 16 else meta.header
        end = os.fstat(descriptor).st_size // meta.page_size
        # pages beyond the end may be free ones that were never written, but not many, and none that is used
        if not METAS - 1 <= meta.last_page < end + _TAIL:
            raise Damaged(f"data.mdb is cut short: it has {end} pages of {meta.last_page + 1}")
        self._end = min(end, meta.last_page + 1)
        self._used = self.used = np.zeros(self._end, bool)
        self.kinds: dict[int, list[int]] = {_BRANCH: [], _LEAF: []}
        self._free: list[bytes] = []

    def tree(self, tree: Tree, *, free: bool = False) -> None:
        """Look at a tree: that of the rows, or that of the free pages."""
        what = "free pages" if free else "rows"
        if tree.root == _NONE:
            if tree.entries or tree.depth:
                raise Damaged(f"the tree of {what} in data.mdb has no root")
            return
        if not 1 <= tree.depth <= 32:
            raise Damaged(f"the tree of {what} in data.mdb is {tree.depth} levels deep")
        levels = [_Level(np.array([min(tree.root, 1 << 62)]))]
        for _ in range(tree.depth - 1):
            self._branches(levels[-1])
            levels.append(_Level(levels[-1].children))
        keys, overflows = self._leaves(levels[-1].pages, free=free)
        observed = (sum(len(level.pages) for level in levels[:-1]), len(levels[-1].pages), overflows, keys.count)
        if observed != (tree.branches, tree.leaves, tree.overflows, tree.entries):
            raise Damaged(f"the tree of {what} in data.mdb does not have the pages and entries that its header states")
        if not free:
            _check_separators(levels[:-1], keys)

    def _mark(self, pages: _Ints) -> None:
        """Note that pages are used: within the file, and by nobody else."""
        if len(pages) and (pages.min() < METAS or pages.max() >= self._end):
            raise Damaged(
                f"data.mdb is cut short: page {int(pages.max())} is used but missing"
                if pages.max() <= self._meta.last_page
                else f"data.mdb refers to page {int(pages.max())}, which it does not have"
            )
        if self._used[pages].any() or len(np.unique(pages)) != len(pages):
            raise Damaged("a page of data.mdb is used twice")
        self._used[pages] = True

    def _batches(self, pages: _Ints, kind: int) -> Iterator[_Page]:
        """Pages of one kind, a few at a time, each header looked at."""
        self._mark(pages)
        self.kinds[kind] += pages.tolist()
        size, header = self._meta.page_size, self._meta.header
        step = max(1, _BATCH // size)
        for start in range(0, len(pages), step):
            some = pages[start : start + step]
            page = _Page(self._read(some), some, header, self._base)
            page.check_kind(kind)
            yield page

    def _read(self, pages: _Ints) -> NDArray[np.uint8]:
        size = self._meta.page_size
        data = np.empty((len(pages), size), np.uint8)
        breaks = np.flatnonzero(np.diff(pages) != 1) + 1
        for start, stop in zip([0, *breaks], [*breaks, len(pages)], strict=True):
            view, at = data[start:stop].data.cast("B"), int(pages[start]) * size
            while view:
                got = os.preadv(self._file, [view], at)
                if not got:
                    raise Damaged(f"data.mdb is cut short: page {at // size} is used but missing")
                view, at = view[got:], at + got
        return data

    def _branches(self, level: _Level) -> None:
        children, counts = [], []
        for page in self._batches(level.pages, _BRANCH):
            node = page.nodes(at_least=2)
            child = page.half(node, 0) | page.half(node, 1) << 16 | page.half(node, 2) << 32
            sizes = page.half(node, 3)
            page.check(node, _NODE + sizes, sizes <= _MAX_KEY)
            level.separators += page.slices(node + _NODE, sizes)
            children.append(child)
            counts.append(page.counts)
        level.children, level.counts = np.concatenate(children), np.concatenate(counts)

    def _leaves(self, pages: _Ints, *, free: bool) -> tuple[_Keys, int]:
        """The keys, and how many pages of long values there are."""
        keys, overflows = _Keys(), 0
        reference = 8 if self._meta.header == 16 else 24
        for page in self._batches(pages, _LEAF):
            node = page.nodes(at_least=1)
            length = page.half(node, 0) | page.half(node, 1) << 16
            flags, sizes = page.half(node, 2), page.half(node, 3)
            big = (flags & _BIG) != 0
            fits = (flags & ~_BIG == 0) & (sizes >= 1) & (sizes <= _MAX_KEY)
            page.check(node, _NODE + sizes + np.where(big, reference, length), fits)
            ends = np.cumsum(page.counts)
            first, last = (page.slices(node[i] + _NODE, sizes[i]) for i in (ends - page.counts, ends - 1))
            keys.add(first, last, len(node))
            value = node + _NODE + sizes
            if big.any():
                starts = [int.from_bytes(data, _ORDER) for data in page.slices(value[big], np.full(big.sum(), 8))]
                overflows += self._long_values(starts, length[big].tolist(), free=free)
            if free:
                self._free += page.slices(value[~big], length[~big])
        return keys, overflows

    def _long_values(self, starts: list[int], lengths: list[int], *, free: bool) -> int:
        """Look at values that have pages of their own; how many these are."""
        header, size = self._meta.header, self._meta.page_size
        counts = []
        for start, length in zip(starts, lengths, strict=True):
            data = os.pread(self._file, header + (length if free else 0), start * size) if start < self._end else b""
            count = _word(data, header - 4, 4)
            # a shorter value that took the place of a longer one has more pages than it needs
            if len(data) < header or count * size < header + length:
                raise Damaged(f"page {start} of data.mdb is missing or overwritten")
            if (_word(data, 0, 8), _word(data, header - 6, 2)) != (start, _OVERFLOW):
                raise Damaged(f"page {start} of data.mdb was overwritten")
            counts.append(count)
            if free:
                self._free.append(data[header:])
        if sum(counts) > self._end:
            raise Damaged("a page of data.mdb is used twice")
        pages = np.array(counts)
        inner = np.arange(pages.sum()) - np.repeat(np.cumsum(pages) - pages, pages)
        self._mark(np.repeat(starts, pages) + inner)
        return int(pages.sum())

    def check_free(self) -> None:
        """Look at the lists of free pages: their lengths, and that no page is used, or free twice."""
        free = np.zeros(self._meta.last_page + 1, bool) if self._free else self._used
        for data in self._free:
            pages = np.frombuffer(data[: len(data) // 8 * 8], np.uint64)
            if not len(pages) or int(pages[0]) != len(pages) - 1:
                raise Damaged("a list of free pages in data.mdb is overwritten")
            pages = pages[1:]
            if len(pages) and (pages.min() < METAS or pages.max() > self._meta.last_page):
                raise Damaged("a list of free pages in data.mdb names pages that it does not have")
            within = pages.astype(np.int64)
            if free[within].any() or self._used[within[within < self._end]].any():
                raise Damaged("a page of data.mdb is free, and used or free elsewhere")
            free[within] = True


class _Page:
    """Some pages at once: their bytes, and what is read from them at offsets counted from the first one's start."""

    def __init__(self, data: NDArray[np.uint8], pages: _Ints, header: int, base: int) -> None:
        self.counts = self._upper = np.empty(0, np.int64)
        self._pages, self._header, self._base = pages, header, base
        self._numbers = data[:, :8].copy().view(np.uint64)[:, 0]
        self._halves = data.view(np.uint16)
        self._flat = self._halves.reshape(-1)
        self._size = data.shape[1]

    def check_kind(self, kind: int) -> None:
        """Refuse pages with another number, or of another kind, than the page above says."""
        flags = self._halves[:, (self._header - 6) // 2]
        self._refuse((self._numbers != self._pages) | (flags != kind))

    def nodes(self, at_least: int) -> _Ints:
        """The offsets of all nodes, page by page."""
        header, base = self._header, self._base
        lower = self._halves[:, (header - 4) // 2].astype(np.int64) + base
        upper = self._halves[:, (header - 2) // 2].astype(np.int64) + base
        counts = (lower - header) // 2
        whole = (lower <= upper) & (upper <= self._size) & (lower % 2 == 0) & (counts >= at_least)
        self._refuse(~whole)
        self.counts, self._upper = counts, upper
        columns = np.arange(int(counts.max()))
        mask = columns < counts[:, None]
        offsets = self._halves[:, header // 2 : header // 2 + len(columns)][mask].astype(np.int64) + base
        rows = np.repeat(np.arange(len(counts)), counts)
        fits = (offsets >= upper[rows]) & (offsets <= self._size - _NODE) & (offsets % 2 == 0)
        self._refuse(~fits, rows)
        return np.asarray(offsets + rows * self._size, np.int64)

    def half(self, nodes: _Ints, index: int) -> _Ints:
        """The sixteen bits at an index of each node."""
        return np.asarray(self._flat[nodes // 2 + index], np.int64)

    def check(self, nodes: _Ints, lengths: _Ints, right: NDArray[np.bool_]) -> None:
        """Refuse nodes that do not end within their page, leave gaps or overlap, or are not right."""
        rows = nodes // self._size
        self._refuse(~right | (nodes % self._size + lengths > self._size), rows)
        taken = np.bincount(rows, lengths + lengths % 2, len(self._pages))
        self._refuse(taken != self._size - self._upper)

    def slices(self, starts: _Ints, lengths: _Ints) -> list[bytes]:
        """Bytes from each of some offsets on."""
        data = self._flat.data.cast("B")
        return [bytes(data[a:b]) for a, b in zip(starts.tolist(), (starts + lengths).tolist(), strict=True)]

    def _refuse(self, bad: NDArray[np.bool_], rows: _Ints | None = None) -> None:
        if bad.any():
            first = np.flatnonzero(bad)[0]
            raise Damaged(f"page {self._pages[first if rows is None else rows[first]]} of data.mdb was overwritten")


def _check_separators(branches: Sequence[_Level], keys: _Keys) -> None:
    """Refuse branches whose keys do not part those below: lookups would miss rows that are there."""
    first, last = keys.first, keys.last
    # within a leaf one key more or less out of order is as a value that was overwritten: nothing here can tell
    if not (all(map(le, first, last)) and all(map(lt, last, first[1:]))):
        raise Damaged("keys of data.mdb are not in order")
    for level in reversed(branches):
        stops = np.cumsum(level.counts)
        starts = (stops - level.counts).tolist()
        leftmost = set(starts)
        for child, separator in enumerate(level.separators):
            # the first of a page has no key of its own: what is before it is parted by the page above
            if child not in leftmost and not last[child - 1] < separator <= first[child]:
                raise Damaged("a branch of data.mdb does not separate the keys below it")
        first = [first[i] for i in starts]
        last = [last[i] for i in (stops - 1).tolist()]
