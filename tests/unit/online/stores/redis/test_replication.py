"""Whether a node covers what a session has seen, case by case of Redis' replication ids."""

import pytest

from headwater.online.stores.redis.replication import (
    NO_ID,
    NO_MARKER,
    Cover,
    ReplicationPosition,
    covers,
    distance,
    has_all,
    histories,
    marker_mark,
    markers_of,
    of_shard,
    only_markers,
    position_of,
)
from headwater.online.stores.redis.scripts import KEPT_MARKERS

A, B = "a" * 40, "b" * 40


def primary(**fields):
    return ReplicationPosition(primary=True, **{"id": A, "offset": 100, "run": "one", **fields})


def replica(**fields):
    return ReplicationPosition(primary=False, **{"id": A, "offset": 100, **fields})


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
        # it has written at this process, after another lost what it had seen
        (primary(id=B), {A: 0, "p:zero": 0, B: 90, "p:one": 90}, Cover.UNKNOWN),
        (primary(id=B), {A: 50, B: 90, "p:one": 90}, Cover.UNKNOWN),
        (primary(id=B, before="c" * 40, switch=5), {A: 0, "p:one": 0}, Cover.UNKNOWN),  # demoted meanwhile
        (primary(), {A: 101}, Cover.UNKNOWN),  # behind its own history: put back from a copy
        (replica(), {f"m:{B}": 7, "p:one": 3}, Cover.YES),
    ],
)
def test_what_a_node_covers(at, marks, found):
    assert covers(at, marks) is found


def test_a_place_is_read_from_info():
    text = (
        b"# Replication\r\nrole:master\r\nmaster_replid:%s\r\nmaster_replid2:%s\r\nmaster_repl_offset:12\r\n"
        b"second_repl_offset:5\r\n" % (A.encode(), B.encode())
    )
    found = position_of(text, b"run_id:one\r\n", [b"3", b"00abcdef"])
    assert found == ReplicationPosition(True, A, 12, B, 5, "one", (3, "00abcdef"), most=12)
    assert found.marks() == {A: 12, "p:one": 12, f"m:{A}": 0x300ABCDEF}
    assert found.marks("0/") == {f"0/{A}": 12, "0/p:one": 12, f"0/m:{A}": 0x300ABCDEF}


def test_a_replica_counts_what_it_has_applied():
    text = (
        b"role:slave\r\nmaster_link_status:up\r\nmaster_sync_in_progress:0\r\nslave_repl_offset:9\r\n"
        b"master_repl_offset:11\r\nmaster_replid:%s\r\nmaster_replid2:%s\r\nsecond_repl_offset:-1\r\n"
        % (A.encode(), NO_ID.encode())
    )
    found = position_of(text, marker=[None, None])
    assert (found.primary, found.offset, found.run, found.marker, found.linked) == (False, 9, "", NO_MARKER, True)
    assert position_of(text).marker is None
    assert not position_of(text.replace(b"status:up", b"status:down")).linked


def test_a_replica_that_waits_for_a_copy_may_show_more_than_it_says_it_has():
    text = b"role:slave\r\nslave_repl_offset:1\r\nmaster_repl_offset:80\r\nmaster_replid:%s\r\n" % A.encode()
    found = position_of(text)
    assert covers(found, {A: 2}) is Cover.NOT_YET and found.marks() == {A: 80}


def test_the_markers_of_every_history_must_be_there():
    marks = {A: 1, f"m:{A}": 0x5_0000_00FF, f"m:{B}": 0x9_1000_0001}
    seen = markers_of(marks)
    assert sorted(seen) == [(5, "000000ff"), (9, "10000001")] and markers_of({A: 1}) == []
    lost = primary(id="c" * 40)
    assert has_all(lost, marks, seen, b"9", [word.encode() for _, word in seen])
    assert not has_all(lost, marks, seen, b"9", [b"000000ff", None])
    assert not has_all(lost, {A: 1}, [], None, [])
    assert has_all(primary(), {A: 1}, [], None, [])


def test_who_has_seen_that_nothing_was_ever_written_has_lost_nothing():
    marks = primary(marker=NO_MARKER).marks()
    assert marks == {A: 100, "p:one": 100, f"m:{A}": 0} and markers_of(marks) == []
    restarted = primary(id=B, run="two")
    assert has_all(restarted, marks, [], None, [])
    # of another history nothing is known, or a row was seen
    assert not has_all(restarted, marks | {"c" * 40: 5}, [], None, [])
    later = marks | primary(marker=(1, "000000ff")).marks()
    assert not has_all(restarted, later, markers_of(later), None, [None])
    assert has_all(restarted, later, markers_of(later), b"1", [b"000000ff"])


def test_a_later_marker_of_a_history_takes_the_place_of_the_one_before():
    early, late = primary(marker=(9, "ffffffff")), primary(marker=(10, "00000000"))
    assert late.marks()[f"m:{A}"] > early.marks()[f"m:{A}"]


def test_how_far_a_node_is_behind():
    assert distance(replica(offset=40), {A: 100}) == 60
    assert distance(replica(id=B, before=A, switch=91, offset=95), {A: 100}) == 5
    assert distance(replica(id=B), {A: 100}) == -1


def test_the_marks_of_a_shard():
    assert of_shard({f"0/{A}": 1, f"5461/{B}": 2}, "5461/") == {B: 2}


def test_the_histories_of_a_cluster_s_session():
    marks = {f"0/{A}": 5, "0/p:one": 5, f"0/{B}": 7, f"5461/{A}": 9, "5461/p:two": 9}
    assert histories(marks) == [
        ("0/", {A: 5, "p:one": 5}),
        ("0/", {B: 7, "p:one": 5}),
        ("5461/", {A: 9, "p:two": 9}),
    ]


def test_markers_alone_are_no_proof_by_offsets():
    marks = marker_mark("m:", 7, "000000ff")
    assert marks == {"m:": 0x7_0000_00FF} and only_markers(marks) and not only_markers({}) and not only_markers({A: 1})
    assert covers(primary(), marks) is Cover.YES
    assert not has_all(primary(), marks, markers_of(marks), None, [None])
    assert has_all(primary(), marks, markers_of(marks), b"7", [b"000000ff"])


def test_data_that_was_emptied_is_told_by_its_markers_where_ids_and_offsets_go_on():
    marks = primary(marker=(7, "000000ff")).marks()
    seen = markers_of(marks)
    assert covers(primary(), marks) is Cover.YES
    assert has_all(primary(), marks, seen, b"7", [b"000000ff"])
    # nothing is there, or others have written since
    assert not has_all(primary(), marks, seen, None, [None])
    assert not has_all(primary(), marks, seen, b"3", [None])
    assert not has_all(primary(), marks, seen, b"9", [b"00000001"])
    # let go for later ones
    assert not has_all(primary(), marks, seen, b"%d" % (KEPT_MARKERS + 6), [None])
    assert has_all(primary(), marks, seen, b"%d" % (KEPT_MARKERS + 7), [None])
