"""Window views as `show` explains them: what each aggregation computes, and which events count now."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from headwater.definitions.window_words import explained, in_words, moves
from headwater.planning.windows.layout import window_layout
from headwater.planning.windows.sizes import row_sizes
from headwater.wire.catalog import aggregation_document

if TYPE_CHECKING:
    from headwater.definitions.view import FeatureView

Row = dict[str, Any]


def fields(view: FeatureView) -> Row:
    """What a window view has beside what every view has: columns, and bytes of an entity's row."""
    layout = window_layout(view.aggregations, view.columns)
    sizes = row_sizes(layout, event_ids=view.source.event_id is not None)
    return {
        "columns": {name: str(dtype) for name, dtype in view.columns.items()},
        "bytes_per_entity": {"typical": sizes.typical, "largest": sizes.largest},
    }


def features(view: FeatureView, now: datetime) -> tuple[list[Row], list[Row]]:
    """A row for each feature of a window view, as data and as drawn.

    Args:
        view: a window view.
        now: the instant at which its windows are explained (UTC).
    """
    shown = [
        {
            "name": made.feature_name,
            "dtype": str(feature.dtype),
            "computes": in_words(made),
            "counts now": explained(made, now),
            "moves": moves(made),
            "default": feature.default,
            "description": feature.description,
        }
        for made, feature in zip(view.aggregations, view.feature_list, strict=True)
    ]
    data = [
        {**{name.replace(" ", "_"): value for name, value in row.items()}, "aggregation": aggregation_document(made)}
        for row, made in zip(shown, view.aggregations, strict=True)
    ]
    return data, shown
