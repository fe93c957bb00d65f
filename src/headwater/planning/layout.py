"""Row layout: where each feature of a view version is in its packed online row."""

from __future__ import annotations

from headwater.definitions.view import FeatureView
from headwater.digests import blake2b
from headwater.forks import lazy
from headwater.types import DType
from headwater.values import Value


class Slot(Value, frozen=True):
    """One feature's place in a row.

    Attributes:
        name: the feature.
        dtype: its dtype.
        bit: its bit in the null bitmap, which is also its place among the features in order of name.
        offset: where its value starts in the fixed block; None where its width varies.
        variable: its place among the values of varying width; None where it is fixed.
    """

    name: str
    dtype: DType
    bit: int
    offset: int | None
    variable: int | None


class RowLayout(Value, frozen=True, dict=True):
    """The slots of a view version's `row_features`; the same for any order of the same features."""

    slots: tuple[Slot, ...]
    fixed_size: int
    variable_count: int

    @classmethod
    def of(cls, view: FeatureView) -> RowLayout:
        """The layout of a view's features: in order of name, wide fixed values first."""
        by_name = sorted(view.row_features, key=lambda f: f.name)
        order = sorted(range(len(by_name)), key=lambda i: (-(by_name[i].dtype.width or 0), i))
        slots: list[Slot | None] = [None] * len(by_name)
        offset = variables = 0
        for i in order:
            feature, width = by_name[i], by_name[i].dtype.width
            if width is None:
                slots[i] = Slot(feature.name, feature.dtype, i, None, variables)
                variables += 1
            else:
                slots[i] = Slot(feature.name, feature.dtype, i, offset, None)
                offset += width
        return cls(tuple(s for s in slots if s is not None), offset, variables)

    @property
    def bitmap_size(self) -> int:
        """Bytes of the null bitmap."""
        return (len(self.slots) + 7) // 8

    @lazy
    def fingerprint(self) -> int:
        """32 bits that name the slots; stored in every row."""
        text = ";".join(f"{s.name}={s.dtype}" for s in self.slots)
        return int.from_bytes(blake2b(text.encode(), digest_size=4).digest(), "big")

    @lazy
    def by_name(self) -> dict[str, Slot]:
        """The slots by feature name."""
        return {slot.name: slot for slot in self.slots}
