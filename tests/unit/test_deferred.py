"""Modules that are imported when they are first used."""

import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from headwater.deferred import deferred


def test_threads_that_come_at_once_see_the_whole_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "takes_long.py").write_text("import time\ntime.sleep(0.3)\nvalue = 7\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    module, start = deferred("takes_long"), threading.Barrier(8)
    assert "takes_long" not in sys.modules

    def read(_: int) -> int:
        start.wait()
        return int(module.value)

    try:
        with ThreadPoolExecutor(8) as pool:
            assert list(pool.map(read, range(8))) == [7] * 8
    finally:
        sys.modules.pop("takes_long", None)


def test_an_attribute_that_is_not_there_is_named() -> None:
    with pytest.raises(AttributeError, match="nothing_of_the_kind"):
        _ = deferred("json").nothing_of_the_kind
