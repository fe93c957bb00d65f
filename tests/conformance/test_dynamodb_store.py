"""DynamoDB against the suite of online stores."""

import zlib

import pytest

from headwater.testing.shared_suite import SharedOnlineStoreSuite
from tests.servers.dynamodb import DynamoDBServer


class TestDynamoDBOnlineStore(SharedOnlineStoreSuite):
    # moto takes about a hundred guarded writes a second
    many, asked = 200, 1_000
    # the service drops expired rows within some days, the emulator never
    prompt = False

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
        item = self.client.get_item(TableName=store.location.table, Key=self._address(key)).get("Item")
        if item is None or "o" not in item:
            return item and item["r"]["B"]
        rest, order, sequence = item["r"]["B"], item["o"]["B"], int(item["s"]["N"]).to_bytes(6, "big")
        flags, deleted = rest[1], b""
        if "d" in item:
            position = item["q"]["B"][1:] if "q" in item else bytes(7)
            flags, deleted = flags | 4, item["d"]["B"] + bytes([position[0] | 128]) + position[1:]
        tail = bytes([order[18] | order[16] << 7]) + order[19:]
        return rest[:1] + bytes([flags]) + rest[2:6] + sequence + order[:16] + tail + deleted + rest[6:]

    def raw_set(self, store, key, data):
        store.provision()
        self.client.put_item(TableName=store.location.table, Item={**self._address(key), "r": {"B": data}})
