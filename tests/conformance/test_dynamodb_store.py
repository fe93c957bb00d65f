"""DynamoDB against the suite of online stores."""

import zlib

import pytest

from headwater.online.stores.dynamodb import DynamoDBOnlineStore
from headwater.testing.online_suite import OnlineStoreSuite
from tests.servers.dynamodb import DynamoDBServer


class TestDynamoDBOnlineStore(OnlineStoreSuite):
    # moto takes about a hundred guarded writes a second
    many = 1_000

    @pytest.fixture
    def store(self, dynamodb_server: DynamoDBServer):
        # many requests at once wait long for their turn there
        store = DynamoDBOnlineStore(
            dynamodb_server.url(connections=4, timeout="30s", patience="60s", write_patience="60s")
        )
        self.client = dynamodb_server.client
        yield store
        store.close()

    @staticmethod
    def _address(key):
        return {"p": {"B": key[:8] + bytes([zlib.crc32(key) % 32])}, "k": {"B": key}}

    def raw_get(self, store, key):
        item = self.client.get_item(TableName=store.place.table, Key=self._address(key)).get("Item")
        if item is None or "o" not in item:
            return item and item["r"]["B"]
        rest, through = item["r"]["B"], item["d"]["B"] if "d" in item else bytes(8)
        return rest[:6] + int(item["s"]["N"]).to_bytes(8, "big") + through + item["o"]["B"] + rest[6:]

    def raw_set(self, store, key, data):
        store.provision()
        self.client.put_item(TableName=store.place.table, Item={**self._address(key), "r": {"B": data}})
