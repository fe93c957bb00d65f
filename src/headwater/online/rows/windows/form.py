"""How the rows of a window version are read for some of its features, worked out once."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from headwater.online.rows.row_format import TIME_RANGES
from headwater.online.rows.windows.codec import DELETED, FLAGS, KEYED, VERSION_BYTE, encode_row
from headwater.online.rows.windows.reading_columns import NumbersReader
from headwater.online.rows.windows.reading_one import RowReader
from headwater.online.rows.windows.row import blank_row
from headwater.planning.windows.layout import WindowFeature, WindowLayout
from headwater.types import leaf_dtype

NEWEST_FILL = (1 << 63) - 1
PLAIN_FLAGS = FLAGS & ~KEYED
"""Those of a row that is read as it is."""
CONVERTED = frozenset({"bool", "timestamp", "date", "array", "embedding"})
"""Dtypes whose values are stored in another form than results have."""


class WindowForm:
    """How the rows of a layout are read for some of its features.

    Args:
        layout: the version's.
        names: of the features asked for, in order.
        batch: whether a batch source counts, so that ages count from what was taken of it too.
    """

    def __init__(self, layout: WindowLayout, names: Sequence[str], *, batch: bool) -> None:
        by_name = {feature.name: feature for feature in layout.features}
        self.layout = layout
        self.batch = batch
        self.features: tuple[WindowFeature, ...] = tuple(by_name[name] for name in names)
        self.one = RowReader(layout, self.features)
        quick = [(slot, f) for slot, f in enumerate(self.features) if layout.lists[f.list].columns]
        self.numbers = NumbersReader(layout, quick) if quick else None
        self.other = [slot for slot, f in enumerate(self.features) if not layout.lists[f.list].columns]
        self.others = RowReader(layout, [self.features[slot] for slot in self.other]) if self.other else None
        self.defaults = [(slot, f.default) for slot, f in enumerate(self.features) if f.default is not None]
        self.converted = [slot for slot, f in enumerate(self.features) if f.dtype.name in CONVERTED]
        self.times = [slot for slot, f in enumerate(self.features) if leaf_dtype(f.dtype).name in TIME_RANGES]
        self.mark = bytes((VERSION_BYTE, 0)) + layout.fingerprint
        # the first bytes of a row that is read as it is → whether it had a delete
        self.marks = {
            self.mark[:1] + bytes((flags,)) + self.mark[2:]: bool(flags & DELETED)
            for flags in range(PLAIN_FLAGS + 1)
            if not flags & ~PLAIN_FLAGS
        }
        self.blank = encode_row(layout, blank_row(layout, fill=NEWEST_FILL))

    def __reduce__(self) -> tuple[Any, ...]:
        return window_form, (self.layout, tuple(feature.name for feature in self.features), self.batch)


@lru_cache(maxsize=512)
def window_form(layout: WindowLayout, names: tuple[str, ...], batch: bool) -> WindowForm:
    """The form of a layout's rows for some features, worked out once."""
    return WindowForm(layout, names, batch=batch)
