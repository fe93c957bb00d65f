"""Folders of results in a store of objects: whole once `_SUCCESS` is there, and nothing is replaced."""

from itertools import permutations

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from headwater.errors import StoreError, UsageError
from headwater.offline.result_folder import Claim, files_at, result_folder

SCHEMA = pa.schema([("n", pa.int64())])
ORDERS = ("", "a", "b", "ab", "ba")


def _written(folder) -> int:
    """What an engine does."""
    files, path = files_at(folder.url)
    with files.open_output_stream(f"{path}/part-0.parquet") as sink:
        pq.write_table(pa.table({"n": [1, 2]}), sink)
    return folder.finish(SCHEMA)


def _names(server, bucket) -> list[str]:
    found = server.client.list_objects_v2(Bucket=bucket).get("Contents", [])
    return [entry["Key"] for entry in found if not entry["Key"].endswith("/") and ".writing" not in entry["Key"]]


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


def test_of_two_results_that_begin_at_once_one_at_most_goes_on(s3_server):
    bucket = s3_server.make_bucket()
    url = s3_server.url(f"{bucket}/out/result")
    with result_folder(url) as folder:
        with pytest.raises(UsageError, match="another result is being written there"), result_folder(url):
            pass
        assert _written(folder) == 2
    assert _names(s3_server, bucket) == ["out/result/_SUCCESS", "out/result/part-0.parquet"]
    # one that was removed before the result was whole, so that another could begin
    other = s3_server.url(f"{bucket}/out/other")
    with pytest.raises(UsageError, match="was removed while the result was written"), result_folder(other) as folder:
        assert _written(folder) == 2
        files, _ = files_at(other)
        files.delete_dir_contents(f"{bucket}/out/.other.writing")
    assert _names(s3_server, bucket) == ["out/result/_SUCCESS", "out/result/part-0.parquet"]


def test_of_claims_in_any_order_of_steps_one_at_most_begins_and_is_whole(tmp_path):
    """Each order of the steps of two writers: note oneself, look, look again at the end, remove the note."""
    files = files_at(f"file://{tmp_path}")[0]
    for number, order in enumerate(sorted(set(permutations("aaaabbbb")))):
        claims = {name: Claim(files, f"{tmp_path}/{number}", "there") for name in "ab"}
        steps = {name: _steps(claim) for name, claim in claims.items()}
        seen = [(name, next(steps[name], None)) for name in order]
        # a later one begins where files are already
        written = [(name, step) for name, step in seen if step in ("begun", "whole")]
        assert written in [[(n, step) for n in names for step in ("begun", "whole")] for names in ORDERS], seen


def _steps(claim):
    claim._note()
    yield "noted"
    try:
        claim._look()
    except UsageError:
        yield "seen"
    else:
        yield "begun"
        claim.check()
        yield "whole"
    claim.end()
    yield "ended"


def test_a_store_that_does_not_exist_is_named():
    with pytest.raises(StoreError, match="cannot write nothing://"), result_folder("nothing://bucket/result"):
        pass
