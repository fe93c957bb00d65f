"""Whether a node covers what a session has seen, case by case of Redis' replication ids."""

import pytest

from headwater.online.stores.redis_marks import NO_ID, Cover, Place, covers, marker_of, of_shard, place

A, B = "a" * 40, "b" * 40


def primary(**fields):
    return Place(primary=True, **{"id": A, "offset": 100, "run": "one", **fields})


def replica(**fields):
    return Place(primary=False, **{"id": A, "offset": 100, **fields})


@pytest.mark.parametrize(
    "at, marks, found",
    [
        (replica(), {}, Cover.YES),
        (replica(), {A: 100}, Cover.YES),
        (replica(), {A: 101}, Cover.NOT_YET),
        (replica(id=B), {A: 10}, Cover.UNKNOWN),  # it restarted empty, or follows another
        # after a failover the new primary remembers the id before, up to the offset where it took over
        (primary(id=B, before=A, switch=91), {A: 90}, Cover.YES),
        (primary(id=B, before=A, switch=91), {A: 91}, Cover.UNKNOWN),
        (replica(id=B, before=A, switch=91, offset=95), {A: 90}, Cover.YES),
        (replica(id=B, before=A, switch=91, offset=80), {A: 90}, Cover.NOT_YET),
        (replica(id=B, before=A, switch=91, offset=80), {A: 91}, Cover.UNKNOWN),
        # of both lines: the old one is covered, the new one not yet
        (replica(id=B, before=A, switch=91, offset=95), {A: 90, B: 96}, Cover.NOT_YET),
        # the id of a primary without replicas changes when the first one joins: it is the same process
        (primary(id=B), {A: 0, "p:one": 0}, Cover.YES),
        (primary(id=B, run="two"), {A: 0, "p:one": 0}, Cover.UNKNOWN),
        (primary(id=B, before="c" * 40, switch=5), {A: 0, "p:one": 0}, Cover.UNKNOWN),  # demoted meanwhile
        (primary(), {A: 101}, Cover.UNKNOWN),  # behind its own history: put back from a copy
        (replica(), {"m:word": 7, "p:one": 3}, Cover.YES),
    ],
)
def test_what_a_node_covers(at, marks, found):
    assert covers(at, marks) is found


def test_a_place_is_read_from_info():
    text = (
        b"# Replication\r\nrole:master\r\nmaster_replid:%s\r\nmaster_replid2:%s\r\nmaster_repl_offset:12\r\n"
        b"second_repl_offset:5\r\n" % (A.encode(), B.encode())
    )
    found = place(text, b"run_id:one\r\n", [b"3", b"word"])
    assert found == Place(True, A, 12, B, 5, "one", (3, "word"))
    assert found.marks() == {A: 12, "p:one": 12, "m:word": 3}
    assert found.marks("0/") == {f"0/{A}": 12, "0/p:one": 12, "0/m:word": 3}


def test_a_replica_counts_what_it_has_applied():
    text = (
        b"role:slave\r\nmaster_link_status:up\r\nmaster_sync_in_progress:0\r\nslave_repl_offset:9\r\n"
        b"master_repl_offset:11\r\nmaster_replid:%s\r\nmaster_replid2:%s\r\nsecond_repl_offset:-1\r\n"
        % (A.encode(), NO_ID.encode())
    )
    found = place(text, marker=[None, None])
    assert (found.primary, found.offset, found.run, found.marker, found.linked) == (False, 9, "", None, True)
    assert not place(text.replace(b"status:up", b"status:down")).linked


def test_the_latest_marker_and_the_marks_of_a_shard():
    assert marker_of({A: 1, "m:old": 3, "m:new": 5}) == (5, "new")
    assert marker_of({A: 1}) is None
    assert of_shard({f"0/{A}": 1, f"5461/{B}": 2}, "5461/") == {B: 2}
