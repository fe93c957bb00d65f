"""Requests are signed as the vendor's library signs them, over connections that are kept while they last."""

import asyncio
import os
import socket
import ssl
import sys
import threading
import time
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given
from hypothesis import strategies as st

from headwater.errors import ConfigError, Unavailable
from headwater.online.connections import ConnectionCounts
from headwater.online.stores.dynamodb.calls import Lost, Request, Response
from headwater.online.stores.dynamodb.store import DynamoDBOnlineStore
from headwater.online.stores.dynamodb.url import DynamoDBLocation
from headwater.online.stores.dynamodb.wire import AsyncWire, Signer, Wire
from tests.servers.certificates import self_signed
from tests.servers.http_proxy import HTTPProxy

_REQUEST = Request("GetItem", b'{"some": "body"}', 5.0)


@given(
    body=st.binary(max_size=200),
    token=st.none() | st.text("abc/+=", min_size=1),
    now=st.datetimes(datetime(2020, 1, 1), datetime(2040, 1, 1)),
    endpoint=st.sampled_from(["https://dynamodb.eu-west-1.amazonaws.com", "http://127.0.0.1:4566", "http://h:80/sub"]),
)
def test_signatures_are_those_of_the_vendors_library(body, token, now, endpoint):
    signer = Signer(endpoint, "eu-west-1")
    found = signer.headers(Request("PutItem", body, 1.0), ("access", "secret", token), now)
    headers = {name: value for name, value in found.items() if name not in ("authorization", "host")}
    asked = AWSRequest("POST", endpoint.rstrip("/") + ("" if "sub" in endpoint else "/"), headers=headers, data=body)
    asked.headers["host"] = signer.host
    asked.context["timestamp"] = found["x-amz-date"]
    auth = SigV4Auth(Credentials("access", "secret", token), "dynamodb", "eu-west-1")
    text = auth.string_to_sign(asked, auth.canonical_request(asked))
    assert found["authorization"].rpartition("Signature=")[2] == auth.signature(text, asked)
    assert f"Credential=access/{auth.scope(asked).partition('/')[2]}" in found["authorization"]


@pytest.fixture
def silent():
    """A server that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


class _Server(ThreadingHTTPServer):
    """Answers, and counts its connections; closes each after so many answers."""

    def __init__(self, answers: int, body: bytes = b"{}") -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers, self.connections, self.body = answers, 0, body
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def __exit__(self, *error):
        self.shutdown()
        super().__exit__(*error)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def setup(self):
        super().setup()
        self.server.connections += 1
        self.count = 0

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.count += 1
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.server.body)))
        self.end_headers()
        self.wfile.write(self.server.body)
        # without a word, as servers end idle connections
        self.close_connection = self.count == self.server.answers

    def log_message(self, *_):
        pass


def _place(endpoint, **options):
    return DynamoDBLocation("eu-west-1", endpoint=endpoint, **options)


def test_a_connection_is_used_again_while_it_is_open():
    with _Server(1_000) as server:
        wire = Wire(_place(f"http://127.0.0.1:{server.server_port}"))
        assert [wire.send(_REQUEST) for _ in range(10)] == [Response(200, b"{}")] * 10
        assert server.connections == 1
        assert wire.connections() == ConnectionCounts(idle=1)
        wire.close()
        assert wire.connections() == ConnectionCounts()


def test_connections_of_an_event_loop_are_counted():
    async def main(location):
        wire = AsyncWire(location)
        assert wire.connections() == ConnectionCounts()
        assert await wire.send(_REQUEST) == Response(200, b"{}")
        assert wire.connections() == ConnectionCounts(idle=1)
        await wire.close()
        assert wire.connections() == ConnectionCounts()

    with _Server(1_000) as server:
        asyncio.run(main(_place(f"http://127.0.0.1:{server.server_port}")))


@pytest.mark.parametrize("answers", [1, 3])
def test_a_connection_that_ended_while_it_was_idle_is_not_used(answers):
    with _Server(answers) as server:
        wire = Wire(_place(f"http://127.0.0.1:{server.server_port}"))
        for _ in range(12):
            assert wire.send(_REQUEST) == Response(200, b"{}")
            time.sleep(0.02)
        assert server.connections == 12 / answers
        wire.close()


def test_no_answer_is_told_in_time(silent):
    wire = Wire(_place(silent))
    answer = wire.send(Request("GetItem", b"{}", 0.1))
    assert isinstance(answer, Lost) and answer.sent and "0.1 s" in answer.why


def test_nobody_there_is_told_and_nothing_was_sent():
    with socket.create_server(("127.0.0.1", 0)) as server:
        endpoint = f"http://127.0.0.1:{server.getsockname()[1]}"
    answer = Wire(_place(endpoint)).send(_REQUEST)
    assert isinstance(answer, Lost) and not answer.sent

    async def ask():
        wire = AsyncWire(_place(endpoint))
        answer = await wire.send(_REQUEST)
        await wire.close()
        return answer

    answer = asyncio.run(ask())
    assert isinstance(answer, Lost) and not answer.sent


@pytest.mark.parametrize(
    "body", [b"<html>log in first</html>", b"", b'{"Responses": 1}', b'{"Responses": {"headwater": [1]}}']
)
def test_answers_of_something_else_are_no_rows(body):
    with _Server(100, body) as server:
        store = DynamoDBOnlineStore(_place(f"http://127.0.0.1:{server.server_port}"))
        with pytest.raises(Unavailable, match="not a DynamoDB response"):
            store.multi_get([b"key"])
        store.close()


@pytest.fixture
def certificate(tmp_path):
    """A certificate of 127.0.0.1 that nobody knows, and its key, in one file."""
    made, key = self_signed(tmp_path)
    file = tmp_path / "certificate.pem"
    file.write_bytes(key.read_bytes() + made.read_bytes())
    return file


def test_encrypted_connections_are_checked(certificate, monkeypatch):
    with _Server(100) as server:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        place = _place(f"https://127.0.0.1:{server.server_port}")

        async def ask():
            wire = AsyncWire(place)
            answers = [await wire.send(_REQUEST) for _ in range(3)]
            await wire.close()
            return answers

        monkeypatch.delenv("AWS_CA_BUNDLE", raising=False)
        for answer in (Wire(place).send(_REQUEST), asyncio.run(ask())[0]):
            assert isinstance(answer, Lost) and not answer.sent and "certificate" in answer.why.lower()
        monkeypatch.setenv("AWS_CA_BUNDLE", str(certificate))
        before, wire = server.connections, Wire(place)
        assert [wire.send(_REQUEST) for _ in range(3)] == [Response(200, b"{}")] * 3
        wire.close()
        assert asyncio.run(ask()) == [Response(200, b"{}")] * 3
        assert server.connections == before + 2


@pytest.fixture
def nothing(monkeypatch, tmp_path):
    """No credentials and no region anywhere."""
    for name in list(os.environ):
        if name.startswith("AWS_"):
            monkeypatch.delenv(name)
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


def test_where_there_are_no_credentials_it_says_what_to_set(nothing):
    with pytest.raises(ConfigError, match="AWS_ACCESS_KEY_ID"):
        Wire(_place("https://dynamodb.example.com")).send(_REQUEST)


def test_an_emulator_on_this_machine_takes_any_credentials(nothing):
    with _Server(10) as server:
        assert Wire(_place(f"http://127.0.0.1:{server.server_port}")).send(_REQUEST).status == 200


def test_region_and_endpoint_come_from_the_usual_places(nothing, monkeypatch):
    with pytest.raises(ConfigError, match="AWS_REGION"):
        Wire(DynamoDBLocation())
    monkeypatch.setenv("AWS_REGION", "cn-north-1")
    assert Wire(DynamoDBLocation())._signer.host == "dynamodb.cn-north-1.amazonaws.com.cn"
    assert Wire(DynamoDBLocation("eu-west-1"))._signer.host == "dynamodb.eu-west-1.amazonaws.com"
    for region, host in {
        "us-gov-west-1": "dynamodb.us-gov-west-1.amazonaws.com",
        "us-iso-east-1": "dynamodb.us-iso-east-1.c2s.ic.gov",
        "xx-newer-1": "dynamodb.xx-newer-1.amazonaws.com",
    }.items():
        assert Wire(DynamoDBLocation(region))._signer.host == host
    monkeypatch.setenv("AWS_USE_FIPS_ENDPOINT", "true")
    assert Wire(DynamoDBLocation("us-east-1"))._signer.host == "dynamodb-fips.us-east-1.amazonaws.com"
    monkeypatch.setenv("AWS_USE_DUALSTACK_ENDPOINT", "true")
    assert Wire(DynamoDBLocation("us-east-1"))._signer.host == "dynamodb-fips.us-east-1.api.aws"
    monkeypatch.setenv("AWS_ENDPOINT_URL_DYNAMODB", "http://127.0.0.1:1")
    assert Wire(DynamoDBLocation("eu-west-1"))._signer.port == 1


def test_a_profile_that_is_not_there_is_named(nothing):
    with pytest.raises(ConfigError, match="nobody"):
        Wire(DynamoDBLocation("eu-west-1", profile="nobody"))
    with pytest.raises(ConfigError, match="nobody"):
        AsyncWire(DynamoDBLocation("eu-west-1", profile="nobody"))


def _sent(place):
    """What a wire of each kind is answered, twice."""

    async def ask():
        wire = AsyncWire(place)
        answers = [await wire.send(_REQUEST) for _ in range(2)]
        await wire.close()
        return answers

    wire = Wire(place)
    answers = [wire.send(_REQUEST) for _ in range(2)]
    wire.close()
    return answers + asyncio.run(ask())


@pytest.fixture
def proxy(monkeypatch):
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    with HTTPProxy() as proxy:
        yield proxy


def test_the_environments_proxy_is_used_where_it_is_not_bypassed(proxy, monkeypatch):
    with _Server(100) as server:
        place = _place(f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        assert _sent(place) == [Response(200, b"{}")] * 4
        assert proxy.asked == [f"POST http://127.0.0.1:{server.server_port}/"] * 4
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        assert _sent(place) == [Response(200, b"{}")] * 4
        assert len(proxy.asked) == 4


def test_encrypted_connections_go_through_a_tunnel(proxy, certificate, monkeypatch):
    with _Server(100) as server:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        monkeypatch.setenv("AWS_CA_BUNDLE", str(certificate))
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        assert _sent(_place(f"https://127.0.0.1:{server.server_port}")) == [Response(200, b"{}")] * 4
        assert proxy.asked == [f"CONNECT 127.0.0.1:{server.server_port}"] * 2


def test_a_proxy_that_refuses_or_cannot_be_used_is_told(proxy, monkeypatch):
    place = _place("https://127.0.0.1:1")
    monkeypatch.setenv("HTTPS_PROXY", proxy.url.replace("me:", "you:"))
    for answer in _sent(place):
        assert isinstance(answer, Lost) and not answer.sent and "407" in answer.why
        assert "p@ss" not in answer.why and "p%40ss" not in answer.why
    monkeypatch.setenv("HTTPS_PROXY", "socks5://me:secret@host:1080")
    for kind in (Wire, AsyncWire):
        with pytest.raises(ConfigError, match="NO_PROXY") as bad:
            kind(place)
        assert "secret" not in str(bad.value)


def test_credentials_that_are_renewed_hold_no_event_loop_up(nothing, monkeypatch, tmp_path):
    """As where a role's credentials are asked for over the network: here a program gives them, which takes its time."""
    calls = tmp_path / "calls"
    program = tmp_path / "keys.py"
    program.write_text(
        "import json, sys, time\nfrom datetime import datetime, timedelta, timezone\n"
        f"open({str(calls)!r}, 'a').write('x')\ntime.sleep(0.5)\n"
        "until = datetime.now(timezone.utc) + timedelta(minutes=5)\n"
        "keys = {'Version': 1, 'AccessKeyId': 'a', 'SecretAccessKey': 's', 'Expiration': until.isoformat()}\n"
        "print(json.dumps(keys))\n"
    )
    config = tmp_path / "config"
    config.write_text(f"[profile renewed]\ncredential_process = {sys.executable} {program}\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))

    async def ask(endpoint):
        wire, longest, ended = AsyncWire(_place(endpoint, profile="renewed")), 0.0, asyncio.Event()

        async def turn():
            nonlocal longest
            while not ended.is_set():
                began = time.monotonic()
                await asyncio.sleep(0.001)
                longest = max(longest, time.monotonic() - began)

        turning = asyncio.create_task(turn())
        await asyncio.sleep(0.01)
        answers = [await wire.send(_REQUEST) for _ in range(2)]
        ended.set()
        await turning
        await wire.close()
        return answers, longest

    with _Server(100) as server:
        answers, longest = asyncio.run(ask(f"http://127.0.0.1:{server.server_port}"))
    assert answers == [Response(200, b"{}")] * 2
    assert len(calls.read_text()) >= 2
    assert longest < 0.5
