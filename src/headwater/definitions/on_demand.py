"""On-demand feature views: features computed when they are read, from other features and values of the request."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar

import msgspec
from msgspec.structs import force_setattr

from headwater.deferred import deferred
from headwater.definitions.coerce import as_dict, as_tuple
from headwater.definitions.feature import Feature
from headwater.definitions.named_features import NamedFeatures
from headwater.definitions.place import Placed
from headwater.definitions.plain_function import OfFunction
from headwater.definitions.view import FeatureSelection, FeatureView
from headwater.forks import lazy
from headwater.types import DType

function_source = deferred("headwater.definitions.function_source")

MODES = ("numpy", "pandas", "arrow", "rows")
NULLS = ("skip", "pass")
ERRORS = ("raise", "null")


class RequestField(Placed, frozen=True):
    """A value that each request gives, as an input of on-demand features; in history a column of the spine.

    Attributes:
        name: the field of `request=`, and the column of the spine.
        dtype: `hw.Float64`, …; given values are widened to it if nothing is lost.
        description: text for readers of the catalog.
    """

    name: str
    dtype: DType
    description: str = ""

    def __hash__(self) -> int:
        return hash((self.name, self.dtype))


class OnDemandFeatureView(OfFunction, NamedFeatures, frozen=True, kw_only=True):
    """Features that a function computes when they are read; `on_demand` makes one of a function.

    The value can be called like the function: `cold_start(temp=…, hour=…)`.

    Attributes:
        name: the view's name, unique in the project: that of the function.
        inputs: features of views (`weather["temp"]`), features of other on-demand feature views, and request fields.
        features: the features that the function returns.
        mode: what the function is given and returns: `numpy` arrays, a `pandas` frame, `arrow` arrays, or `rows`.
        nulls: `skip`: a row with a NULL input is not given to the function, and its features are NULL; `pass`: it is.
        errors: `raise`: a row for which the function raises fails the whole read; `null`: it is NULL, with status
            ERROR.
        version: `major.minor.patch`; None: `apply` numbers the view.
        owner: who is responsible for it; changed in place.
        description: text for readers of the catalog; changed in place.
        tags: free labels, text → text; changed in place.
        source: the function's source text.
        imports: the import statements that it uses.
        function: the function itself; None in one that was read from a registry.
    """

    called: ClassVar[str] = "on-demand feature view"
    not_compared: ClassVar[tuple[str, ...]] = ("place", "function")
    inputs: Iterable[Any]
    features: Iterable[Feature]
    mode: str = "numpy"
    nulls: str = "skip"
    errors: str = "raise"
    version: str | None = None
    owner: str = ""
    description: str = ""
    tags: Mapping[str, str] = msgspec.field(default_factory=dict)
    source: str = ""
    imports: tuple[str, ...] = ()
    function: Callable[..., Any] | None = None

    def __post_init__(self) -> None:
        problems: list[str] = []
        one = isinstance(self.inputs, (FeatureView, FeatureSelection, OnDemandFeatureView, RequestField))
        inputs = (self.inputs,) if one else as_tuple(self.inputs, "inputs", problems)
        force_setattr(self, "inputs", inputs)
        force_setattr(self, "features", as_tuple(self.features, "features", problems))
        force_setattr(self, "tags", as_dict(self.tags, "tags", problems))
        if self.function is not None and not self.source:
            found = function_source.source_of(self.function)
            force_setattr(self, "source", found.text)
            force_setattr(self, "imports", found.imports)
            problems += found.problems
        force_setattr(self, "problems", tuple(problems))

    def __hash__(self) -> int:
        return hash((self.name, self.version))

    def _run_by(self) -> str:
        return f"{self.called} {self.name!r} was read from a registry: only reads run it"

    @property
    def join_keys(self) -> dict[str, DType]:
        """Empty: the join keys are those of its inputs."""
        return {}

    @property
    def entities(self) -> tuple[Any, ...]:
        """Empty: the entities are those of its inputs."""
        return ()

    @lazy
    def feature_list(self) -> tuple[Feature, ...]:
        """The features, typed."""
        return tuple(feature for feature in self.features if isinstance(feature, Feature))

    @property
    def request_fields(self) -> tuple[RequestField, ...]:
        """The request fields among its own inputs."""
        return tuple(item for item in self.inputs if isinstance(item, RequestField))

    @property
    def selections(self) -> tuple[FeatureSelection, ...]:
        """The features among its inputs, as selections."""
        return tuple(
            item if isinstance(item, FeatureSelection) else FeatureSelection(item)
            for item in self.inputs
            if isinstance(item, (FeatureView, FeatureSelection, OnDemandFeatureView))
        )

    def __getitem__(self, names: str | tuple[str, ...]) -> FeatureSelection:
        return FeatureSelection(self)[names]

    def rename(self, names: Mapping[str, str]) -> FeatureSelection:
        """The whole view with some output columns renamed.

        Args:
            names: feature → output column.

        Returns:
            A selection of all features, for services and reads.
        """
        return FeatureSelection(self).rename(names)


def on_demand(
    *,
    inputs: Iterable[Any],
    features: Iterable[Feature],
    mode: str = "numpy",
    nulls: str = "skip",
    errors: str = "raise",
    version: str | None = None,
    owner: str = "",
    description: str = "",
    tags: Mapping[str, str] | None = None,
) -> Callable[[Callable[..., Any]], OnDemandFeatureView]:
    """A decorator that makes an on-demand feature view of a function, under the function's name.

    The function's parameters are named like its inputs; in the modes `pandas` and `rows` it has one, the frame or the
    row. It returns its features by name: a dict of columns, a frame, or for `rows` a dict.

    Args:
        inputs: features of views (`weather["temp"]`), of other on-demand feature views, and request fields.
        features: the features that the function returns.
        mode: `numpy`, `pandas`, `arrow` or `rows`: what it is given and returns.
        nulls: `skip`: a row with a NULL input is not given to the function, and its features are NULL; `pass`: it is.
        errors: `raise`: a row for which the function raises fails the whole read; `null`: it is NULL, with status
            ERROR.
        version: `major.minor.patch`; None: `apply` numbers the view.
        owner: who is responsible for it.
        description: text for readers of the catalog.
        tags: free labels, text → text.

    Returns:
        The decorator.
    """

    def decorated(function: Callable[..., Any]) -> OnDemandFeatureView:
        return OnDemandFeatureView(
            getattr(function, "__name__", ""),
            inputs=inputs,
            features=features,
            mode=mode,
            nulls=nulls,
            errors=errors,
            version=version,
            owner=owner,
            description=description,
            tags={} if tags is None else tags,
            function=function,
        )

    return decorated
