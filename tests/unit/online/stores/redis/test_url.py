import pytest

from headwater.errors import ConfigError
from headwater.online.stores.redis.url import parse_url


def test_a_server_with_replicas():
    place = parse_url("redis://app:p%40ss@cache:6379/2?replicas=one:6380,two&timeout=500ms&connect_timeout=0.2")
    assert place.kind == "single" and place.hosts == (("cache", 6379), ("one", 6380), ("two", 6379))
    assert (place.user, place.password, place.db) == ("app", "p@ss", 2)
    assert (place.timeout, place.connect_timeout, place.tls) == (0.5, 0.2, False)


def test_defaults():
    place = parse_url("redis://")
    assert place.hosts == (("localhost", 6379),) and (place.db, place.user, place.password) == (0, "", "")


def test_tls(tmp_path):
    (tmp_path / "ca.pem").touch()
    place = parse_url("rediss://cache?ca=ca.pem&verify=false", tmp_path)
    assert place.tls and place.ca == str(tmp_path / "ca.pem") and not place.verify
    with pytest.raises(ConfigError, match=r"key=no\.pem: there is no such file"):
        parse_url("rediss://cache?ca=ca.pem&key=no.pem", tmp_path)


def test_sentinels():
    place = parse_url("redis+sentinel://:secret@a:26379,b/mymaster/1?sentinel_password=other")
    assert place.kind == "sentinel" and place.hosts == (("a", 26379), ("b", 26379))
    assert (place.service, place.db, place.password, place.sentinel_password) == ("mymaster", 1, "secret", "other")


def test_a_cluster():
    place = parse_url("redis+cluster://[::1]:7000,b:7001")
    assert place.kind == "cluster" and place.hosts == (("::1", 7000), ("b", 7001))


@pytest.mark.parametrize(
    "url, told",
    [
        ("redis://cache?timeuot=1s", "did you mean 'timeout'"),
        ("redis://cache?timeout=soon", "timeout=soon"),
        ("redis://cache?password=secret", r"password= is not an option; write redis://:PASSWORD@host \("),
        ("rediss://cache?user=ml", r"user= is not an option; write rediss://USER:PASSWORD@host$"),
        ("redis+sentinel://a:1/m?username=ml", r"write redis\+sentinel://USER:PASSWORD@host$"),
        ("redis://cache?db=3", r"write redis://host/NUMBER$"),
        ("redis://cache?timeout=0", "more than 0"),
        ("redis://cache:port", r"redis://\*\*\* is not like one of"),
        ("redis://cache/first", "a database is a number"),
        ("redis+sentinel://a:26379", "name of the primary"),
        ("redis+cluster://a:7000/1", "always 0"),
        ("redis+cluster://a:7000?replicas=b:7001", "finds them itself"),
        ("redis://cache?tls=perhaps", "true or false"),
        ("redis+tube://a", "is not like one of"),
    ],
)
def test_what_cannot_be_read_is_told(url, told):
    with pytest.raises(ConfigError, match=told):
        parse_url(url)


def test_the_password_is_never_shown():
    for url in ("redis://u:s3cret@a:1/0", "redis+sentinel://u:s3cret@a:1/m?sentinel_password=s3cret"):
        assert "s3cret" not in parse_url(url).shown
    with pytest.raises(ConfigError) as told:
        parse_url("redis://u:s3cret@a:1/0?nothing=1")
    assert "s3cret" not in str(told.value)
