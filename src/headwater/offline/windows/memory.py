"""Memory that the C library keeps after arrays are gone: given back before much else is made."""

from __future__ import annotations

import ctypes
import sys


def give_back() -> None:
    """Give unused memory of the heap back to the system, where the C library can be asked to (glibc).

    Arrays that were kept for long leave holes in the heap, which the system counts as used.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)
