from __future__ import annotations

from collections.abc import Iterable, Mapping

import pytest

import headwater as hw
from headwater.compute.opening import check_store
from headwater.errors import ConfigError
from headwater.online.base import OnlineStore
from headwater.online.stores.dynamodb.store import DynamoDBOnlineStore
from headwater.online.stores.lmdb.store import LMDBOnlineStore
from headwater.online.stores.memory.store import MemoryOnlineStore
from headwater.online.stores.redis.store import RedisOnlineStore


class Earlier(MemoryOnlineStore):
    """As stores were before puts were bounded in time."""

    def put(self, rows: Iterable[tuple[bytes, bytes]], meta: Mapping[bytes, bytes] | None = None) -> list[bool]:  # type: ignore[override]
        return []


class Bare(OnlineStore):
    """As stores were before they had an epoch."""

    def multi_get(self, keys):
        return [None] * len(keys)

    def compare_and_put(self, key, sequence, row):
        return False


@pytest.mark.parametrize("store", [MemoryOnlineStore, LMDBOnlineStore, RedisOnlineStore, DynamoDBOnlineStore])
def test_stores_have_what_the_base_asks_for(store: type[OnlineStore]) -> None:
    check_store(store)


def test_a_store_of_an_earlier_release_is_refused_with_what_it_lacks() -> None:
    with pytest.raises(ConfigError, match=r"arguments until, expires_in, high_water of put\(\)"):
        check_store(Earlier)
    with pytest.raises(ConfigError, match=r"delete\(\), epoch\(\), info\(\), put\(\), put_meta\(\), scan\(\), the arg"):
        check_store(Bare)


def test_a_store_object_of_an_earlier_release_is_refused(tmp_path) -> None:
    with pytest.raises(ConfigError, match="until"):
        hw.FeatureStore(tmp_path, online=Earlier())
