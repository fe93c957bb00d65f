"""Code that reads a usual row in place, written out for the features that are asked for.

A read of one row costs as much as the steps that Python takes. Written out, without loops over lists, windows and
functions, these are a third. Only numbers of the layout go into the text.
"""

from __future__ import annotations

import struct
from bisect import bisect_left
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from headwater.definitions.aggregate_functions import FUNCTIONS
from headwater.online.rows.windows.list_bytes import LIFETIME, USUAL
from headwater.online.rows.windows.state_bytes import narrow_bytes, wide_columns
from headwater.online.rows.windows.stored import number_form
from headwater.planning.windows.kinds import MAX, MIN, SPREAD, finish
from headwater.planning.windows.layout import ListLayout, WindowFeature, WindowLayout
from headwater.planning.windows.rule import Window

RowCode = Callable[..., "list[Any] | None"]
"""From a row, where the ends of its lists are, and where windows begin (in steps of the layout, in their order): the
values of the features in their stored form; None where a list is not a usual one. Raises what reading bytes that are no
row may raise."""
_SPREADS = ("var_pop", "var_samp", "stddev_pop", "stddev_samp")


def row_code(layout: WindowLayout, features: Sequence[WindowFeature], windows: Sequence[Window]) -> RowCode:
    """The code for some features of a layout.

    Args:
        layout: the version's.
        features: those asked for; of lists of columns of numbers alone.
        windows: theirs, in the order in which their beginnings are given.
    """
    names: dict[str, Any] = {
        "bisect": bisect_left,
        "ends": struct.Struct(f"<{len(layout.lists)}I").unpack_from,
        **{function: partial(_spread, function) for function in _SPREADS},
    }
    starts = ", ".join(f"start{i}" for i in range(len(windows)))
    values = ", ".join(f"value{slot}" for slot in range(len(features)))
    lines = [
        f"def read(data, at, {starts}):" if windows else "def read(data, at):",
        f"    {', '.join(f'end{i}' for i in range(len(layout.lists)))}, = ends(data, at)",
        f"    first = at + {4 * len(layout.lists) + 7} & ~7",
        f"    if first + end{len(layout.lists) - 1} > len(data):",
        "        return None",
        f"    if ({' | '.join(['first', *(f'end{i}' for i in range(len(layout.lists)))])}) & 7:",
        "        return None",
        "    view = memoryview(data)",
        "    quads, words, doubles = view.cast('q'), view.cast('I'), view.cast('d')",
    ]
    for index, given in enumerate(layout.lists):
        own = [(slot, feature) for slot, feature in enumerate(features) if feature.list == index]
        if own:
            places = {window: windows.index(window) for window in given.bounded if window in windows}
            lines += _deeper(_list_code(given, index, own, places, layout.step))
    lines.append(f"    return [{values}]")
    exec("\n".join(lines), names)
    read: RowCode = names["read"]
    return read


def _spread(function: str, number: int, value: float) -> float | None:
    found: float | None = finish(function, (number, 0.0, value), start=0, at=0, width=None, n=0, q=None)
    return found


def _list_code(
    layout: ListLayout,
    index: int,
    features: Sequence[tuple[int, WindowFeature]],
    places: dict[Window, int],
    step: int,
) -> list[str]:
    """The code that reads one list."""
    bounded: dict[Window, list[tuple[int, WindowFeature]]] = {}
    for slot, feature in features:
        if feature.window.width is not None:
            bounded.setdefault(feature.window, []).append((slot, feature))
    whole = [(slot, feature) for slot, feature in features if feature.window.width is None]
    total = "total" if layout.lifetime else "count"
    columns, narrow = wide_columns(layout), narrow_bytes(layout)
    shape = [
        # where the boundaries begin and end, in 4 bytes
        f"low = base + {columns} * {total} << 1" if columns else "low = base << 1",
        "high = low + count",
        f"if 4 * high + {narrow} * {total} > first + end{index}:" if narrow else f"if 4 * high > first + end{index}:",
        "    return None",
        *_values_begin(layout, total),
    ]
    search = [f"begin = quads[base - 1] // {step}"]
    for window, own in bounded.items():
        search += [
            f"at = bisect(words, start{places[window]} - begin, low, high)",
            "if at < high:",
            *_deeper(_taken(layout, own)),
            "else:",
            *_deeper(_empty(own)),
        ]
    nothing = _empty([each for own in bounded.values() for each in own])
    lines = [
        f"base = first + end{index - 1} >> 3" if index else "base = first >> 3",
        "head = quads[base]",
        "count = head >> 16",
        f"if head & {~USUAL if layout.lifetime else ~(USUAL & ~LIFETIME)}:",
        "    return None",
    ]
    if not layout.lifetime:
        lines += ["if count:", *_deeper(["base += 2", *shape, *search])]
        lines += [f"elif 8 * base >= first + end{index}:", "    return None"]
        return [*lines, "else:", *_deeper(nothing)]
    bit = LIFETIME.bit_length() - 1
    lines += [f"total = count + (head >> {bit} & 1)", "base += 2 if count else 1", *shape]
    if bounded:
        lines += ["if count:", *_deeper(search), "else:", *_deeper(nothing)]
    if whole:
        lines += [
            "if total > count:",
            *_deeper(["at = high", *_taken(layout, whole)]),
            "else:",
            *_deeper(_empty(whole)),
        ]
    return lines


def _deeper(lines: Sequence[str]) -> list[str]:
    return [f"    {line}" for line in lines]


def _values_begin(layout: ListLayout, total: str) -> list[str]:
    """The numbers of a list, and what leads to one of them from the place of its boundary."""
    extreme = layout.kind in (MIN, MAX)
    if not extreme:
        if not wide_columns(layout):
            return []
        floats = layout.kind == SPREAD or (layout.dtype is not None and layout.dtype.name.startswith("float"))
        second = f" + {total}" if layout.kind == SPREAD else ""
        return [f"numbers = {'doubles' if floats else 'quads'}", f"shift = base{second} - low"]
    code = number_form(layout).format.removeprefix("<")
    views = {"d": "doubles", "q": "quads"}
    size = struct.calcsize("<" + code)
    return [
        f"numbers = {views.get(code) or f'view.cast({code!r})'}",
        f"shift = {'base' if size == 8 else f'4 * high // {size}'} - low",
    ]


def _taken(layout: ListLayout, features: Sequence[tuple[int, WindowFeature]]) -> list[str]:
    """The code that takes the values of one record, whose boundary is `at`."""
    value = "numbers[at + shift]"
    made = {
        "count": "number",
        "mean": "value / number",
        **{function: f"{function}(number, value)" for function in _SPREADS},
    }
    lines = []
    if layout.kind not in (MIN, MAX):
        lines.append("number = words[at + count]")
    if len(features) > 1 and (wide_columns(layout) or layout.kind in (MIN, MAX)):
        lines.append(f"value = {value}")
        value = "value"
    for slot, feature in features:
        if feature.function == "rate":
            lines.append(f"value{slot} = number * 1000000 / {feature.window.width}")
        else:
            lines.append(f"value{slot} = {made.get(feature.function, 'value').replace('value', value)}")
    return lines


def _empty(features: Sequence[tuple[int, WindowFeature]]) -> list[str]:
    """The code that takes what there is without events."""
    by_value: dict[str, list[str]] = {}
    for slot, feature in features:
        by_value.setdefault(repr(FUNCTIONS[feature.function].empty), []).append(f"value{slot}")
    return [f"{' = '.join(slots)} = {value}" for value, slots in by_value.items()]
