"""A resolved request: the versions, keys, layouts and columns that references mean, as frozen values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from headwater.definitions.feature import Feature
from headwater.definitions.view import FeatureView
from headwater.errors import UsageError
from headwater.forks import lazy
from headwater.planning.layout import RowLayout
from headwater.planning.snapshot import OnDemandVersion, ViewVersion
from headwater.types import DType, Int64
from headwater.values import Value

if TYPE_CHECKING:
    from headwater.planning.windows.layout import WindowLayout

FULL_NAMES = "pass full_names=True (the headwater command: --full-names),"
"""What to do about two columns of one name."""


class ResolvedKey(Value, frozen=True):
    """One join key of a view in a request.

    Attributes:
        name: the join key.
        dtype: its dtype.
        column: the column of the spine or request that holds it.
        source_column: the column of the view's source that holds it.
    """

    name: str
    dtype: DType
    column: str
    source_column: str


class LogKeys(Value, frozen=True):
    """The join keys of a view version as the offline log keeps them in deletes.

    Attributes:
        types: join key → Arrow type, in order.
        names: their other names: deletes by those are of the same keys.
    """

    types: Mapping[str, Any]
    names: tuple[tuple[str, ...], ...] = ()


class ResolvedView(Value, frozen=True, dict=True):
    """One view version as a request uses it; the same view under two aliases is resolved twice.

    Attributes:
        label: the alias, else the view's name (`name@version` where two versions are asked for at once).
        definition: the version.
        live: whether it is the live version.
        keys: its join keys, in order; empty for a global view.
        features: the features asked for, in the order first asked.
        key_names: what other versions call the same join keys, each in this one's order.
    """

    label: str
    definition: ViewVersion
    live: bool
    keys: tuple[ResolvedKey, ...]
    features: tuple[Feature, ...]
    key_names: tuple[tuple[str, ...], ...] = ()

    @property
    def view(self) -> FeatureView:
        """The definition, with its version."""
        return self.definition.view

    @property
    def name(self) -> str:
        """The view's name."""
        return self.definition.view.name

    @property
    def version(self) -> str:
        """The view's version."""
        return self.definition.version

    @property
    def log_keys(self) -> LogKeys:
        """The join keys as the offline log keeps them in deletes."""
        types = {key.name: (Int64 if key.dtype.name == "int32" else key.dtype).arrow for key in self.keys}
        return LogKeys(types, self.key_names)

    @lazy
    def layout(self) -> RowLayout:
        """The layout of the version's online rows."""
        return RowLayout.of(self.view)

    @property
    def windows(self) -> WindowLayout | None:
        """The lists that a window version keeps an entity, of all its features; None of a plain view."""
        return self.definition.windows


class OutputColumn(Value, frozen=True):
    """One column of the answer: which feature of which resolved view it shows.

    Attributes:
        name: the column's name.
        view: the index of its view in the request.
        feature: the feature.
        by_name: whether it was asked for by a text reference without a version, so that it follows the live pointer.
    """

    name: str
    view: int
    feature: Feature
    by_name: bool = False


class Argument(Value, frozen=True):
    """One argument of a function, and where its values are; one of the last three is given.

    Attributes:
        name: the argument.
        dtype: of its values.
        column: a column of the request's `columns`.
        field: a request field.
        computed: a function of the request, and a feature of it.
    """

    name: str
    dtype: DType
    column: str | None = None
    field: str | None = None
    computed: tuple[int, str] | None = None


class ResolvedFunction(Value, frozen=True):
    """One on-demand view version as a request uses it.

    Attributes:
        label: its name (`name@version` where two versions are asked for at once).
        definition: the version.
        live: whether it is the live version.
        arguments: what its function is given, in order.
    """

    label: str
    definition: OnDemandVersion
    live: bool
    arguments: tuple[Argument, ...]

    @property
    def name(self) -> str:
        """The view's name."""
        return self.definition.view.name

    @property
    def version(self) -> str:
        """The view's version."""
        return self.definition.version


class ComputedColumn(Value, frozen=True):
    """One column of the answer that a function computes.

    Attributes:
        name: the column's name.
        function: the index of its function in the request.
        feature: the feature.
        by_name: whether it was asked for by a text reference without a version.
    """

    name: str
    function: int
    feature: Feature
    by_name: bool = False


class ResolvedRequest(Value, frozen=True, dict=True):
    """What a request means: versions, keys, layouts and output columns.

    Attributes:
        views: the view versions to read, each once, those that functions alone read included.
        columns: the columns that are read, in the order asked for; behind them those that functions alone read.
        service: (name, version) of the service asked for, or None.
        functions: the on-demand view versions to compute, each after those that it reads.
        shown: where there are functions, the output columns in the order asked for.
    """

    views: tuple[ResolvedView, ...]
    columns: tuple[OutputColumn, ...]
    service: tuple[str, str] | None = None
    functions: tuple[ResolvedFunction, ...] = ()
    shown: tuple[OutputColumn | ComputedColumn, ...] = ()

    @property
    def outputs(self) -> tuple[OutputColumn | ComputedColumn, ...]:
        """The output columns in the order asked for."""
        return self.shown if self.functions else self.columns

    def owner(self, column: OutputColumn | ComputedColumn) -> ResolvedView | ResolvedFunction:
        """What a column is of."""
        return self.functions[column.function] if isinstance(column, ComputedColumn) else self.views[column.view]

    @lazy
    def request_fields(self) -> dict[str, DType]:
        """Request field → dtype, in order of first use."""
        arguments = (argument for function in self.functions for argument in function.arguments)
        return {argument.field: argument.dtype for argument in arguments if argument.field is not None}

    @lazy
    def join_keys(self) -> dict[str, DType]:
        """Column of the spine or request → dtype, the widest of every view's, in order of first use."""
        found: dict[str, DType] = {}
        for key in (key for view in self.views for key in view.keys):
            if found.setdefault(key.column, key.dtype).name == "int32":
                found[key.column] = key.dtype
        return found

    @lazy
    def versions(self) -> dict[str, str]:
        """View label → version."""
        versions = {view.label: view.version for view in self.views}
        return versions | {function.label: function.version for function in self.functions}

    def check_columns(self, taken: Iterable[str], what: str) -> None:
        """Refuse output columns named like a column of the spine or request.

        Raises:
            UsageError: naming both, with the way out.
        """
        taken = set(taken)
        for column in self.outputs:
            if column.name in taken:
                raise UsageError(
                    f"feature '{self.owner(column).name}:{column.feature.name}' would be named {column.name!r}, "
                    f"like a column of the {what}; {FULL_NAMES} or rename() the feature"
                )
