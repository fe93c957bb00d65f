"""The plain function of a definition that was made of one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from headwater.errors import UsageError


class OfFunction:
    """A definition that a function was made into: it can be called like the function, and pickled without it."""

    __slots__ = ()
    function: Callable[..., Any] | None

    def _run_by(self) -> str:
        """What it is and what alone runs it, where it was read from a registry."""
        raise NotImplementedError

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the plain function.

        Args:
            args: as the function takes them.
            kwargs: as the function takes them.

        Returns:
            What the function returns.

        Raises:
            UsageError: the definition was read from a registry, which has the function's source text alone.
        """
        if self.function is None:
            raise UsageError(self._run_by())
        return self.function(*args, **kwargs)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        # the name of the function means this value, so that the function itself cannot be pickled
        parts: Any = super().__reduce__()
        make, (kind, given, problems) = parts
        return make, (kind, {**given, "function": None}, problems)
