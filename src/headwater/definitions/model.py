"""Model: a model that was logged, as what names the features that it takes."""

from __future__ import annotations

import re

from headwater.deferred import deferred_pattern
from headwater.definitions.arguments import ExplainsArguments
from headwater.errors import UsageError, brief
from headwater.values import Value

_NAME: re.Pattern[str] = deferred_pattern(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_VERSION: re.Pattern[str] = deferred_pattern(r"[1-9][0-9]{0,8}")


class Model(Value, frozen=True, metaclass=ExplainsArguments):
    """A logged model in place of its features: what is read is the version of the service that it was logged with.

    Takes the place of features wherever they are given: `store.get_online_features(hw.Model("delays"), entities)`. No
    model is run.

    Attributes:
        name: the model's.
        version: which logging of it, from 1; None: the newest.
    """

    name: str
    version: int | None = None

    @classmethod
    def of(cls, text: str) -> Model:
        """The model that `NAME` or `NAME@VERSION` names.

        Args:
            text: as it is written.

        Returns:
            The model; whether anybody logged it is not looked at.

        Raises:
            UsageError: it is of another form.
        """
        name, at, version = text.partition("@") if isinstance(text, str) else ("", "", "")
        if not _NAME.fullmatch(name) or (at and not _VERSION.fullmatch(version)):
            raise UsageError(
                f"model: {brief(text)} is not a name such as 'delays' or 'delays@3': letters, digits, '.', '_' and '-'"
            )
        return cls(name, int(version) if at else None)

    def __str__(self) -> str:
        return self.name if self.version is None else f"{self.name}@{self.version}"
