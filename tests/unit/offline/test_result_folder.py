"""Folders of results in a store of objects: whole once `_SUCCESS` is there, and nothing is replaced."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from headwater.errors import StoreError, UsageError
from headwater.offline.result_folder import files_at, result_folder

SCHEMA = pa.schema([("n", pa.int64())])


def _written(folder) -> int:
    """What an engine does."""
    files, path = files_at(folder.url)
    with files.open_output_stream(f"{path}/part-0.parquet") as sink:
        pq.write_table(pa.table({"n": [1, 2]}), sink)
    return folder.finish(SCHEMA)


def _names(server, bucket) -> list[str]:
    found = server.client.list_objects_v2(Bucket=bucket).get("Contents", [])
    return [entry["Key"] for entry in found if not entry["Key"].endswith("/")]


@pytest.fixture(autouse=True)
def keys(monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "any")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "any")


def test_a_result_in_a_bucket_is_whole_once_it_says_so(s3_server):
    bucket = s3_server.make_bucket()
    url = s3_server.url(f"{bucket}/result").replace("s3://", "s3a://")
    with pytest.raises(KeyError), result_folder(url) as folder:
        assert _written(folder) == 2
        raise KeyError
    assert _names(s3_server, bucket) == []
    with result_folder(url) as folder:
        assert _written(folder) == 2
        assert _names(s3_server, bucket) == ["result/part-0.parquet"]
    assert _names(s3_server, bucket) == ["result/_SUCCESS", "result/part-0.parquet"]
    with pytest.raises(UsageError, match="there are files already"), result_folder(url):
        pass
    with result_folder(s3_server.url(f"{bucket}/none")) as folder:
        assert folder.finish(SCHEMA) == 0
    assert _names(s3_server, bucket)[:2] == ["none/_SUCCESS", "none/part-00000.parquet"]


def test_a_store_that_does_not_exist_is_named():
    with pytest.raises(StoreError, match="cannot write nothing://"), result_folder("nothing://bucket/result"):
        pass
