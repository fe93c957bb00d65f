import msgspec
import pytest

from headwater.errors import FormatError
from headwater.online.meta import (
    log_id_key,
    pack_log_id,
    pack_watermark,
    read_watermarks,
    unpack_log_id,
    unpack_watermark,
    watermark_entry,
    watermark_key,
)
from headwater.online.rows.keys import META_PREFIX
from headwater.online.stores.memory.store import MemoryOnlineStore
from headwater.planning.watermark import Watermark


def test_watermarks_are_kept_per_project_view_and_version() -> None:
    store, mark = MemoryOnlineStore(), Watermark(-5, 7)
    store.put_meta(watermark_entry("p", "v", "1.0.0", mark))
    found = read_watermarks(store, "p", [("v", "1.0.0"), ("v", "1.1.0")])
    assert found == {("v", "1.0.0"): mark, ("v", "1.1.0"): None}
    assert read_watermarks(store, "q", [("v", "1.0.0")]) == {("v", "1.0.0"): None}
    assert all(key.startswith(META_PREFIX) for key, _ in store.scan(b""))


def test_a_watermark_under_the_key_of_another_version_is_told() -> None:
    store = MemoryOnlineStore()
    store.put_meta({watermark_key("p", "v", "1.0.0"): pack_watermark("p", "w", "2.0.0", Watermark())})
    with pytest.raises(FormatError, match=r"prefix of w 2\.0\.0"):
        read_watermarks(store, "p", [("v", "1.0.0")])


def test_log_ids_read_back_under_a_key_of_their_own() -> None:
    assert unpack_log_id(pack_log_id("p", "id")) == ("p", "id")
    assert len({log_id_key("p"), log_id_key("q"), watermark_key("p", "", "")}) == 3


@pytest.mark.parametrize(
    "data", [b"", b"\xff", b"hello", msgspec.msgpack.encode([1, "p"]), msgspec.msgpack.encode([1, 2, 3, 4, 5, 6])]
)
def test_damaged_meta_is_a_format_error(data: bytes) -> None:
    with pytest.raises(FormatError, match="damaged"):
        unpack_watermark(data)


def test_newer_meta_says_so() -> None:
    with pytest.raises(FormatError, match="newer headwater"):
        unpack_log_id(msgspec.msgpack.encode([2, "p", "id", "more"]))
