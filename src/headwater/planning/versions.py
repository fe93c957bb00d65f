"""Versions of views, on-demand views and services as they are registered."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING

import msgspec

from headwater.deferred import deferred
from headwater.definitions.sources import view_tables
from headwater.definitions.view import FeatureView
from headwater.forks import lazy
from headwater.planning.selections import PinnedSelection, Reads, Upstream
from headwater.values import Value

if TYPE_CHECKING:
    from headwater.definitions import fingerprint as fingerprints
    from headwater.definitions.on_demand import OnDemandFeatureView, RequestField
    from headwater.planning import on_demand_meaning
    from headwater.planning.windows import layout as window_layouts
    from headwater.types import DType
else:
    fingerprints = deferred("headwater.definitions.fingerprint")
    on_demand_meaning = deferred("headwater.planning.on_demand_meaning")
    window_layouts = deferred("headwater.planning.windows.layout")


def version_key(version: str) -> tuple[int, ...]:
    """Versions in order: 1.10.0 after 1.9.0."""
    return tuple(int(part) for part in version.split("."))


class ViewVersion(Reads, Value, frozen=True, dict=True):
    """One immutable version of a view.

    Attributes:
        view: the definition, with `version` filled in and what is changed in place up to date.
        automatic: whether `apply` numbered it, so that it goes live by itself.
        created_at, updated_at: when it was applied first, and changed in place last (UTC).
        retired_at: when it was retired; None while it is active.
        revision: the registry revision that added it.
        held: whether it was rolled back from, so that only `promote` makes it live again.
        log_head: the offline log's head when it was applied.
        caught_up: whether it was live, or once materialized as far as the live one.
        reads: of a view over other views, which versions of those are read now; see `Reads`.
        upstream: of such a view, the versions that it was made from.
    """

    view: FeatureView
    automatic: bool
    created_at: datetime
    updated_at: datetime
    retired_at: datetime | None = None
    revision: int = 0
    held: bool = False
    log_head: int = 0
    caught_up: bool = False
    reads: Mapping[tuple[str, str], str] = msgspec.field(default_factory=dict)
    upstream: Upstream = msgspec.field(default_factory=dict)

    @property
    def version(self) -> str:
        """`major.minor.patch`."""
        assert self.view.version is not None
        return self.view.version

    @lazy
    def selections(self) -> tuple[PinnedSelection, ...]:
        """What its query reads of other views; nothing where it reads sources alone."""
        tables = view_tables(self.view.source)
        return tuple(PinnedSelection(t.view.name, t.view.version or "", t.read) for t in tables)

    @lazy
    def fingerprint(self) -> str:
        """The name of its meaning, worked out by this release: what SQL means is not said by the one that stored it."""
        return fingerprints.fingerprint(self.view)

    @lazy
    def windows(self) -> window_layouts.WindowLayout | None:
        """The lists that a window version keeps an entity, of all its features; None of a plain view."""
        view = self.view
        return window_layouts.window_layout(view.aggregations, view.columns) if view.aggregations else None

    @lazy
    def column_fingerprints(self) -> Mapping[str, str]:
        """Feature → the name of what makes its values, each worked out when it is first asked for."""
        return fingerprints.ColumnFingerprints(self.view)


class OnDemandVersion(Reads, Value, frozen=True, dict=True):
    """One immutable version of an on-demand feature view.

    Attributes:
        view: the definition, with `version` filled in and what is changed in place up to date; its `inputs` are left
            out.
        inputs: request fields, and features of the versions that it was made from, in order.
        automatic: whether `apply` numbered it, so that it goes live by itself.
        created_at, updated_at: when it was applied first, and changed in place last (UTC).
        retired_at: when it was retired; None while it is active.
        revision: the registry revision that added it.
        held: whether it was rolled back from, so that only `promote` makes it live again.
        caught_up: whether it was live, or all that it reads once had caught up.
        reads: which versions of its inputs are read now; see `Reads`.
        upstream: the versions that it was made from.
    """

    view: OnDemandFeatureView
    inputs: tuple[RequestField | PinnedSelection, ...]
    automatic: bool
    created_at: datetime
    updated_at: datetime
    retired_at: datetime | None = None
    revision: int = 0
    held: bool = False
    caught_up: bool = False
    reads: Mapping[tuple[str, str], str] = msgspec.field(default_factory=dict)
    upstream: Upstream = msgspec.field(default_factory=dict)

    @property
    def name(self) -> str:
        """The view's name."""
        return self.view.name

    @property
    def version(self) -> str:
        """`major.minor.patch`."""
        assert self.view.version is not None
        return self.view.version

    @lazy
    def selections(self) -> tuple[PinnedSelection, ...]:
        """The features among its inputs."""
        return tuple(item for item in self.inputs if isinstance(item, PinnedSelection))

    @lazy
    def arguments(self) -> Mapping[str, DType]:
        """What its function is given: name → dtype, in the order of the inputs."""
        return on_demand_meaning.arguments(self.inputs, self.upstream)

    @lazy
    def fingerprint(self) -> str:
        """The name of its meaning."""
        return on_demand_meaning.fingerprint(self.view, self.inputs, self.upstream)

    @lazy
    def column_fingerprints(self) -> Mapping[str, str]:
        """Feature → the name of what makes its values, that of its inputs included."""
        return on_demand_meaning.column_fingerprints(self.view, self.inputs, self.upstream)


class ServiceVersion(Reads, Value, frozen=True):
    """One immutable version of a service.

    Attributes:
        selections: its columns, in order, each of the view version that it was made from.
        automatic: whether `apply` numbered it.
        created_at, updated_at: when it was applied first, and changed in place last (UTC).
        text: its list as it was written, an item each; None in one that an earlier release stored.
        reads: (view, version that it was made from) → the version that is read for it now, which has the same columns
            with the same fingerprints; one that is missing is read itself.
        held: whether it was rolled back from, so that only `promote` makes it live again.
    """

    name: str
    version: str
    selections: tuple[PinnedSelection, ...]
    automatic: bool
    created_at: datetime
    updated_at: datetime
    full_names: bool = False
    owner: str = ""
    description: str = ""
    tags: Mapping[str, str] = msgspec.field(default_factory=dict)
    retired_at: datetime | None = None
    revision: int = 0
    held: bool = False
    text: tuple[str, ...] | None = None
    reads: Mapping[tuple[str, str], str] = msgspec.field(default_factory=dict)
