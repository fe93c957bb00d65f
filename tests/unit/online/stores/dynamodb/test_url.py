import pytest

from headwater.errors import ConfigError
from headwater.online.stores.dynamodb.url import DynamoDBLocation, parse_url


def test_defaults():
    assert parse_url("dynamodb://eu-west-1") == DynamoDBLocation(region="eu-west-1")
    assert parse_url("dynamodb://").region == ""


def test_options():
    place = parse_url(
        "dynamodb://eu-west-1?table=features.prod&endpoint=http://127.0.0.1:4566/&profile=ml&create=no&connections=8"
        "&connect_timeout=0.5&timeout=500ms&patience=10&write_patience=1m"
    )
    assert (place.table, place.endpoint, place.profile) == ("features.prod", "http://127.0.0.1:4566", "ml")
    assert (place.create, place.connections, place.connect_timeout) == (False, 8, 0.5)
    assert (place.timeout, place.patience, place.write_patience) == (0.5, 10, 60)
    assert place.shown == "dynamodb://eu-west-1/features.prod at http://127.0.0.1:4566"
    assert place.local and not parse_url("dynamodb://eu-west-1?endpoint=https://vpce.example.com").local


@pytest.mark.parametrize(
    "url, told",
    [
        ("dynamodb://eu-west-1?tabel=x", "did you mean 'table'"),
        ("dynamodb://eu-west-1?table=a", "3 to 255"),
        ("dynamodb://eu-west-1?table=my/table", "3 to 255"),
        ("dynamodb://eu-west-1/table", "dynamodb://eu-west-1?table=headwater"),
        ("dynamodb://EU", "is not like"),
        ("dynamodb://eu-west-1?endpoint=127.0.0.1:4566", "http://127.0.0.1:4566"),
        ("dynamodb://eu-west-1?timeout=0", "more than 0"),
        ("dynamodb://eu-west-1?patience=soon", "patience=soon"),
        ("dynamodb://eu-west-1?connections=0", "1 to 1000"),
        ("dynamodb://eu-west-1?create=perhaps", "true or false"),
    ],
)
def test_what_is_wrong_is_told(url, told):
    with pytest.raises(ConfigError, match="url") as bad:
        parse_url(url)
    assert told in str(bad.value)


def test_keys_are_refused_and_not_shown():
    with pytest.raises(ConfigError) as bad:
        parse_url("dynamodb://AKIA:secret@eu-west-1")
    assert "profile" in str(bad.value) and "secret" not in str(bad.value)
