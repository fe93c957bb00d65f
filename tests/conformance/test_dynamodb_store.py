"""DynamoDB against the suite of online stores."""

import zlib

import pytest

from headwater.testing.shared_suite import SharedOnlineStoreSuite
from tests.servers.dynamodb import DynamoDBServer


class TestDynamoDBOnlineStore(SharedOnlineStoreSuite):
    # moto takes about a hundred guarded writes a second
    many, asked = 200, 1_000

    @pytest.fixture
    def place(self, dynamodb_server: DynamoDBServer, tmp_path):
        self.client = dynamodb_server.client
        # many requests at once wait long for their turn there
        url = dynamodb_server.url(connections=4, timeout="30s", patience="60s", write_patience="60s")
        return url, tmp_path

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
