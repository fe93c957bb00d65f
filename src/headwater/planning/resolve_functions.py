"""What on-demand views of a request read: further columns of views, request fields, and other on-demand views."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from headwater.definitions.feature import Feature
from headwater.definitions.on_demand import RequestField
from headwater.errors import UsageError
from headwater.planning import service_reads
from headwater.planning.gathered import Gathered
from headwater.planning.on_demand_meaning import argument_names
from headwater.planning.resolved import (
    Argument,
    ComputedColumn,
    OutputColumn,
    ResolvedFunction,
    ResolvedRequest,
    ResolvedView,
)
from headwater.planning.selections import PinnedSelection
from headwater.planning.snapshot import OnDemandVersion, RegistrySnapshot, ViewVersion
from headwater.types import DType

_HIDDEN = "__input_"


@dataclass
class InnerParts:
    """What a request has beside the columns that were asked for.

    Attributes:
        functions: the on-demand views to compute, each after those that it reads.
        indexes: label of one that was asked for → its place among them.
        columns: name, label and feature of the columns that only they read.
    """

    functions: list[ResolvedFunction] = field(default_factory=list)
    indexes: dict[str, int] = field(default_factory=dict)
    columns: list[tuple[str, str, Feature]] = field(default_factory=list)

    def request(
        self,
        views: tuple[ResolvedView, ...],
        asked: Sequence[tuple[str, str, Feature, bool]],
        places: Mapping[str, int],
        service: tuple[str, str] | None,
    ) -> ResolvedRequest:
        """The whole request.

        Args:
            views: all that are read.
            asked: name, label, feature and `by_name` of each output column.
            places: label of a view → its place.
            service: (name, version) of the service asked for, or None.
        """
        read: list[OutputColumn] = []
        shown: list[OutputColumn | ComputedColumn] = []
        for name, label, feature, by_name in asked:
            if label in self.indexes:
                shown.append(ComputedColumn(name, self.indexes[label], feature, by_name))
            else:
                read.append(OutputColumn(name, places[label], feature, by_name))
                shown.append(read[-1])
        read += [OutputColumn(name, places[label], feature) for name, label, feature in self.columns]
        return ResolvedRequest(views, tuple(read), service, tuple(self.functions), tuple(shown))


def inner_parts(snapshot: RegistrySnapshot, draft: Gathered, *, history: bool) -> InnerParts:
    """What the on-demand views of a request read; views and features of them are added to the draft.

    Args:
        snapshot: the registry.
        draft: what was asked for.
        history: whether versions that have not caught up may be read.

    Raises:
        UsageError: a request field of two dtypes.
    """
    return _Inner(snapshot, draft, history).parts


class _Inner:
    def __init__(self, snapshot: RegistrySnapshot, draft: Gathered, history: bool) -> None:
        self._snapshot, self._draft, self._history = snapshot, draft, history
        self.parts = InnerParts()
        self._known: dict[tuple[str, str], int] = {}
        self._fields: dict[str, tuple[DType, str]] = {}
        # (label, feature) → the column that has it
        self._columns = {(label, f.name): name for name, label, f, _ in draft.columns if label in draft.views}
        for label, (version, _) in draft.computed.items():
            self.parts.indexes[label] = self._function(version, label)

    def _function(self, version: OnDemandVersion, label: str) -> int:
        key = (version.name, version.version)
        if key in self._known:
            return self._known[key]
        reads = service_reads.reads_of(self._snapshot, version, history=True) if self._history else None
        found: list[Argument] = []
        for item in version.inputs:
            if isinstance(item, RequestField):
                found.append(self._field(item, version))
            else:
                read = version.version_read(item) if reads is None else reads[item.view, item.version]
                found += self._features(item, read)
        live = self._snapshot.any_view(version.name).live == version.version
        self.parts.functions.append(ResolvedFunction(label, version, live, tuple(found)))
        self._known[key] = len(self.parts.functions) - 1
        return self._known[key]

    def _field(self, item: RequestField, version: OnDemandVersion) -> Argument:
        dtype, other = self._fields.setdefault(item.name, (item.dtype, version.name))
        if dtype != item.dtype:
            raise UsageError(
                f"request field {item.name!r} is {item.dtype} for {version.name!r} and {dtype} for {other!r}; read "
                "them apart, or give the fields two names"
            )
        return Argument(item.name, item.dtype, field=item.name)

    def _features(self, item: PinnedSelection, read: str) -> list[Argument]:
        version = self._snapshot.any_view(item.view).version(read)
        if isinstance(version, ViewVersion):
            label = self._label(item, version)
            return [
                Argument(argument, version.view.feature(name).dtype, column=self._column(label, version, name))
                for name, argument in argument_names(item)
            ]
        asked = (label for label, (known, _) in self._draft.computed.items() if known is version)
        function = self._function(version, next(asked, None) or self._free(item.view, version.version))
        return [
            Argument(argument, version.view.feature(name).dtype, computed=(function, name))
            for name, argument in argument_names(item)
        ]

    def _label(self, item: PinnedSelection, version: ViewVersion) -> str:
        """The label of a view in the request: one that is there already by the same keys, else a new one."""
        keys = dict(item.join_key_map)
        for label, (known, _, key_map) in self._draft.views.items():
            if known is version and key_map == keys:
                return label
        label = self._free(item.alias or item.view, version.version)
        live = self._snapshot.view(item.view).live == version.version
        self._draft.views[label] = (version, live, keys)
        return label

    def _free(self, label: str, version: str) -> str:
        """A label that nothing in the request has."""
        taken = {*self._draft.views, *self._draft.computed, *(f.label for f in self.parts.functions)}
        found, number = label, 1
        while found in taken:
            found = f"{label}@{version}" if number == 1 else f"{label}@{version}_{number}"
            number += 1
        return found

    def _column(self, label: str, version: ViewVersion, name: str) -> str:
        key = (label, name)
        if key not in self._columns:
            feature = version.view.feature(name)
            self._draft.features.setdefault(label, {})[name] = feature
            self._columns[key] = f"{_HIDDEN}{len(self.parts.columns)}"
            self.parts.columns.append((self._columns[key], label, feature))
        return self._columns[key]
