import time

from headwater.online.fetching.row_cache import RowCache


def test_rows_and_their_absence_are_kept():
    cache = RowCache(60, 10)
    cache.keep([b"a", b"b"], [b"1", None], time.monotonic())
    assert cache.find([b"b", b"c", b"a"]) == ([None, None, b"1"], [1])
    assert (cache.hits, cache.misses) == (2, 1)


def test_what_was_asked_for_too_long_ago_is_read_again():
    cache = RowCache(5, 10)
    cache.keep([b"a"], [b"1"], time.monotonic() - 6)
    assert cache.find([b"a"]) == ([None], [0])


def test_the_longest_there_make_room():
    cache = RowCache(60, 32)
    for i in range(100):
        cache.keep([b"%d" % i], [b"row"], time.monotonic())
    found, missing = cache.find([b"%d" % i for i in range(100)])
    assert 16 <= 100 - len(missing) <= 32
    assert found[-1] == b"row" and found[0] is None


def test_more_rows_at_once_than_it_holds():
    cache = RowCache(60, 10)
    cache.keep([b"%d" % i for i in range(50)], [b"row"] * 50, time.monotonic())
    assert 50 - len(cache.find([b"%d" % i for i in range(50)])[1]) <= 10
