"""What views and on-demand feature views have in common: a name, a version, and features by their names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from headwater.definitions.feature import Feature
from headwater.definitions.place import Placed
from headwater.errors import FeatureNotFound, brief, listing, nearest
from headwater.forks import lazy
from headwater.types import DType


class NamedFeatures(Placed, frozen=True):
    """A view of either kind; its name may be given by position."""

    called: ClassVar[str] = "view"
    name: str

    @property
    def version(self) -> str | None:
        """`major.minor.patch`; None: `apply` numbers the view."""
        raise NotImplementedError

    @property
    def join_keys(self) -> Mapping[str, DType]:
        """Name → dtype of every join key of its own."""
        raise NotImplementedError

    @property
    def feature_list(self) -> tuple[Feature, ...]:
        """The features, typed."""
        raise NotImplementedError

    @lazy
    def feature_names(self) -> tuple[str, ...]:
        """The names of the features, in order."""
        return tuple(feature.name for feature in self.feature_list)

    @lazy
    def features_by_name(self) -> Mapping[str, Feature]:
        """Name → feature, the first of each name."""
        return {f.name: f for f in reversed(self.feature_list) if isinstance(f.name, str)}

    def feature(self, name: str) -> Feature:
        """The feature of that name.

        Args:
            name: the name of a feature of this view.

        Returns:
            The feature's definition.

        Raises:
            FeatureNotFound: the view has no such feature; the message lists those that it has.
        """
        if name in self.features_by_name:
            return self.features_by_name[name]
        version = f" ({self.version})" if self.version else ""
        raise FeatureNotFound(
            f"{brief(f'{self.name}:{name}')}: {self.called} {self.name!r}{version} has {listing(self.feature_names)}"
            f"{nearest(name, self.feature_names)}"
        )
