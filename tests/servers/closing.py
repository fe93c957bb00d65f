"""What ends with its `with` block."""

from __future__ import annotations

from types import TracebackType
from typing import Self


class Closing:
    """Something with a `close()`."""

    def close(self) -> None:
        """End it; twice is a no-op."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
