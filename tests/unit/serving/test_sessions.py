"""Session tokens over the wire: signed by the project, and no others taken."""

from __future__ import annotations

import asyncio
import base64
import json
import threading
import time

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import headwater as hw
from headwater.online.session import MOST_CHARACTERS
from headwater.online.session_tokens import _SECRETS
from headwater.serving.app import App
from headwater.serving.settings import ServerSettings
from tests.servers.threaded_server import ThreadedServer
from tests.unit.serving.conftest import DELAYS, EVENTS, NOON, ROW, Caller, Reply

READ = {"features": ["events:n"], "entities": {"user": [7]}}


def read(call: Caller, token: str) -> Reply:
    return call("POST", "/v1/features:read", READ, {"Headwater-Session": token})


def begun(call: Caller) -> str:
    written = call("POST", "/v1/features:write", {"view": "events", "rows": [ROW]}, {"Headwater-Session": ""})
    assert written.status == 200
    return written.headers["headwater-session"]


def test_a_token_goes_in_and_comes_out_signed(call: Caller) -> None:
    token = begun(call)
    for _ in range(3):
        reply = read(call, token)
        assert (reply.status, reply.json["columns"]["n"]) == (200, [str(2**60)])
        token = reply.headers["headwater-session"]
        assert "." in token
    assert hw.Session.from_token(token).store == call.app.store.sync.context.store_name


def test_the_library_signs_as_the_server_does(call: Caller) -> None:
    session = call.app.store.sync.session()
    call.app.store.sync.get_online_features(**READ, session=session)
    assert read(call, session.token).status == 200
    # and takes what the server signed, here and where the secret is not known
    again = hw.Session.from_token(begun(call))
    call.app.store.sync.get_online_features(**READ, session=again)
    assert read(call, again.token).status == 200


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_what_was_changed_is_refused(data: st.DataObject, call: Caller) -> None:
    token = begun(call)
    place = data.draw(st.integers(0, len(token) - 1))
    letter = data.draw(st.sampled_from("AZaz09-_.=% ").filter(lambda x: x != token[place]))
    changed = data.draw(st.sampled_from([token[:place] + letter + token[place + 1 :], token[:place], token + letter]))
    reply = read(call, changed)
    assert reply.status == (200 if changed == "" else 400), changed


@pytest.mark.parametrize("forged", [[2, "a:b", {"node": 2**63 - 1}, [b"e"]], [1, "a:b", {}], "x", [9, 9]])
def test_what_nobody_signed_is_refused(call: Caller, forged: object) -> None:
    token = base64.urlsafe_b64encode(msgspec.msgpack.encode(forged)).decode().rstrip("=")
    for text in (token, f"{token}.", f"{token}.{'A' * 22}"):
        reply = read(call, text)
        assert reply.status == 400
        assert "not a token of this project" in reply.json["detail"]


def test_a_token_of_another_project_is_refused(call: Caller) -> None:
    other = hw.AsyncFeatureStore.in_memory([EVENTS, DELAYS], clock=lambda: NOON)
    theirs = Caller(App(other, ServerSettings()), call.runner)
    token = begun(theirs)
    assert read(theirs, token).status == 200
    assert read(call, token).status == 400
    call.runner.run(other.close())


def test_several_tokens_stand_for_all_that_they_have_seen(call: Caller) -> None:
    store = call.app.store.sync.context.store_name
    call.app.store.sync.session()
    one, two = hw.Session(store, {"one": 1}), hw.Session(store, {"two": 2})
    reply = read(call, f"{one.token},{two.token}")
    assert reply.status == 200
    assert hw.Session.from_token(reply.headers["headwater-session"]).marks == {"one": 1, "two": 2}
    for wrong in (f"{one.token},{two.token}x", f"{one.token},", f",{one.token}"):
        assert read(call, wrong).status == 400


def test_secrets_are_replaced_while_tokens_are_under_way(call: Caller) -> None:
    first = begun(call)
    secrets = call.app.store.sync.context.session_secrets
    secrets.rotate()
    renewed = read(call, first)
    assert renewed.status == 200
    second = renewed.headers["headwater-session"]
    secrets.rotate()
    assert read(call, second).status == 200
    old = read(call, first)
    assert old.status == 409 and old.json["type"].endswith("#consistency-lost")
    assert read(call, old.headers["headwater-session"]).status == 200


def test_another_process_s_new_secret_is_seen_at_once(call: Caller) -> None:
    """What another process signs with a secret that this one has not read yet is looked up."""
    token = begun(call)
    context = call.app.store.sync.context
    known = context.session_secrets.known()
    context.session_secrets.rotate()
    context.session_secrets.newest()
    theirs = read(call, token).headers["headwater-session"]
    # as if this process had read the secrets before, a while ago
    secrets = context.session_secrets._known
    secrets.value, secrets._tried_at = known, time.monotonic() - 2
    _SECRETS[context.store_name] = known[0]
    assert read(call, theirs).status == 200


def test_a_registry_that_does_not_answer_holds_up_no_session(call: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    token = begun(call)
    secrets, free, asked = call.app.store.sync.context.session_secrets, threading.Event(), threading.Event()
    registry, here = secrets._registry, threading.current_thread()

    class Silent:
        def get_or_set(self, *args: str) -> str:
            # on the event loop's thread nobody would be left to end the wait
            assert threading.current_thread() is not here
            asked.set()
            assert free.wait(60)
            return registry.get_or_set(*args)

    monkeypatch.setattr(secrets, "_registry", Silent())
    secrets._known.expire()
    body, headers = [json.dumps(READ).encode()], {"content-type": "application/json", "headwater-session": token}

    async def at_once() -> list[Reply]:
        first = asyncio.ensure_future(call.call("POST", "/v1/features:read", body, headers))
        try:
            assert await asyncio.to_thread(asked.wait, 60)
            others = [await call.call("POST", "/v1/features:read", body, headers) for _ in range(3)]
            assert not first.done()
        finally:
            free.set()
        return [*others, await first]

    assert [reply.status for reply in call.runner.run(at_once())] == [200] * 4


def shards(call: Caller, count: int, mark: int = 10**12) -> hw.Session:
    """A session of a store of many shards."""
    session = call.app.store.sync.session()
    session.advance(call.app.store.sync.context.store_name, {f"{shard:040x}": mark + shard for shard in range(count)})
    return session


def test_a_session_of_many_shards_is_taken_and_one_that_is_too_long_begins_again(call: Caller) -> None:
    begun(call)
    for count in (100, 300, 900):
        token = shards(call, count).token
        assert read(call, token).status == 200, len(token)
    several = ",".join(shards(call, 300, mark).token for mark in range(10))
    assert len(several) > MOST_CHARACTERS
    refused = read(call, several)
    assert refused.status == 409 and "begin a new session" in refused.json["detail"]
    assert read(call, refused.headers["headwater-session"]).status == 200


@pytest.mark.parametrize("count", [1, 900])
def test_clients_carry_sessions_of_many_shards(call: Caller, count: int) -> None:
    begun(call)
    store = call.app.store
    token = shards(call, count).token
    with ThreadedServer(App(store, ServerSettings())) as server:
        with hw.Client(server.url, timeout="60s") as client:
            session = hw.Session.from_token(token)
            assert client.get_online_features(**READ, session=session).to_dict()["n"] == [2**60]
            assert len(session.marks) >= count

        async def read_once() -> None:
            async with hw.AsyncClient(server.url, timeout="60s") as client:
                session = hw.Session.from_token(token)
                found = await client.get_online_features(**READ, session=session)
                assert found.to_dict()["n"] == [2**60] and len(session.marks) >= count

        asyncio.run(read_once())


def test_a_client_says_that_its_session_is_too_long(call: Caller) -> None:
    session = hw.Session("a:b", {f"{shard:040x}": shard for shard in range(2_000)})
    with ThreadedServer(App(call.app.store, ServerSettings())) as server, hw.Client(server.url) as client:
        with pytest.raises(hw.ConsistencyLost, match="begin a new") as lost:
            client.get_online_features(**READ, session=session)
        client.get_online_features(**READ, session=lost.value.session)
    assert lost.value.session.marks == {} and lost.value.session.store
