"""(event, created, ordinal) as one wide number that sorts like them, so that one `max` finds the row."""

from __future__ import annotations

from dataclasses import dataclass

from sqlglot import exp

from headwater.offline.trees import BIGINT, INT128, Tree, big, number

PACKED_BITS = 126


@dataclass(frozen=True)
class Packing:
    """How (event, created, ordinal) become one number that sorts like them.

    Attributes:
        event_min, event_max: the least and greatest event time.
        created_min, created_max: the least and greatest created time.
        created_bits: 0 where created time follows from event time.
        ordinal_bits: bits of the ordinal.
        lag: created − event, where `created_bits` is 0.
    """

    event_min: int
    event_max: int
    created_min: int
    created_max: int
    created_bits: int
    ordinal_bits: int
    lag: int = 0

    @classmethod
    def of(cls, event: tuple[int, int], created: tuple[int, int], size: int, lag: int | None) -> Packing:
        """The packing for these ranges."""
        created_bits = 0 if lag is not None else max(1, (created[1] - created[0]).bit_length())
        return cls(*event, *created, created_bits, max(1, size.bit_length()), lag or 0)

    @property
    def fits(self) -> bool:
        """Whether the number fits 126 bits."""
        return (self.event_max - self.event_min).bit_length() + self.created_bits + self.ordinal_bits <= PACKED_BITS

    @property
    def _mask(self) -> int:
        return (1 << self.ordinal_bits) - 1

    def pack(self, event: Tree, created: Tree, ordinal: Tree) -> Tree:
        """The packed number of a row."""
        packed = _shift(_offset(event, self.event_min, self.event_max), self.created_bits + self.ordinal_bits)
        if self.created_bits:
            packed = _or(packed, _shift(_offset(created, self.created_min, self.created_max), self.ordinal_bits))
        return _or(packed, _wide(ordinal))

    def bound(self, t: Tree) -> Tree:
        """The greatest packed number of an event time ≤ t; t must not be before `event_min`."""
        within = exp.Least(this=t, expressions=[big(self.event_max)])
        below = self.created_bits + self.ordinal_bits
        return _or(
            _shift(_offset(within, self.event_min, self.event_max), below), exp.cast(number((1 << below) - 1), INT128)
        )

    def inverted(self, packed: Tree) -> Tree:
        """The packed number with its ordinal turned round, so that the greatest has the least ordinal."""
        return exp.BitwiseXor(this=packed, expression=exp.cast(number(self._mask), INT128))

    def ordinal(self, packed: Tree) -> Tree:
        """The ordinal in a packed number."""
        return exp.cast(exp.BitwiseAnd(this=packed, expression=exp.cast(number(self._mask), INT128)), BIGINT)

    def event(self, packed: Tree) -> Tree:
        """The event time in a packed number."""
        field = exp.BitwiseRightShift(this=packed, expression=number(self.created_bits + self.ordinal_bits))
        return _absolute(exp.paren(field), self.event_min)

    def created(self, packed: Tree) -> Tree:
        """The created time in a packed number."""
        if not self.created_bits:
            return self.event(packed) + number(self.lag)
        mask = exp.cast(number((1 << self.created_bits) - 1), INT128)
        field = exp.paren(exp.BitwiseRightShift(this=packed, expression=number(self.ordinal_bits)))
        return _absolute(exp.paren(exp.BitwiseAnd(this=field, expression=mask)), self.created_min)


def _offset(value: Tree, least: int, greatest: int) -> Tree:
    """How far a value is above the least one, as a wide integer; wide already where 64 bits do not hold it."""
    if greatest - least < 2**63:
        return _wide(value - big(least))
    return exp.paren(_wide(value) - _wide(big(least)))


def _absolute(offset: Tree, least: int) -> Tree:
    return exp.cast(offset + _wide(big(least)), BIGINT)


def _wide(value: Tree) -> Tree:
    return exp.cast(value, INT128)


def _shift(value: Tree, bits: int) -> Tree:
    return exp.paren(exp.BitwiseLeftShift(this=value, expression=number(bits)))


def _or(left: Tree, right: Tree) -> Tree:
    return exp.paren(exp.BitwiseOr(this=left, expression=right))
