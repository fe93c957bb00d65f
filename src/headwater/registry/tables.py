"""The registry's tables, as the newest migration leaves them; times are microseconds since 1970 (UTC)."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, Integer, LargeBinary, MetaData, String, Table, Text

metadata = MetaData()

schema = Table(
    "registry_schema",
    metadata,
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("applied_at", BigInteger, nullable=False),
)

settings = Table(
    "registry_setting",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("value", Text, nullable=False),
)

revisions = Table(
    "registry_revision",
    metadata,
    Column("revision", BigInteger, primary_key=True, autoincrement=False),
    Column("at", BigInteger, nullable=False),
    Column("who", Text, nullable=False),
    Column("what", String(32), nullable=False),
)

changes = Table(
    "registry_change",
    metadata,
    Column("revision", BigInteger, primary_key=True, autoincrement=False),
    Column("place", Integer, primary_key=True, autoincrement=False),
    Column("kind", String(16), nullable=False),
    Column("name", String(255), nullable=False),
    Column("version", String(64)),
    Column("action", String(16), nullable=False),
    Column("stage", Text, nullable=False),
    Index("registry_change_name", "kind", "name"),
)

entities = Table(
    "registry_entity",
    metadata,
    Column("name", String(255), primary_key=True),
    Column("definition", Text, nullable=False),
)

pointers = Table(
    "registry_pointer",
    metadata,
    Column("kind", String(16), primary_key=True),
    Column("name", String(255), primary_key=True),
    Column("live", String(64)),
    Column("previous", String(64)),
    Column("waiting", String(64)),
    # of a view: whether rows were ever given to `write`
    Column("written", Integer),
)

versions = Table(
    "registry_version",
    metadata,
    Column("kind", String(16), primary_key=True),
    Column("name", String(255), primary_key=True),
    Column("version", String(64), primary_key=True),
    Column("definition", Text, nullable=False),
    Column("automatic", Integer, nullable=False),
    Column("held", Integer, nullable=False),
    Column("log_head", BigInteger, nullable=False),
    Column("revision", BigInteger, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    Column("retired_at", BigInteger),
    # of a view's version: whether it was live, or once materialized as far as the live one
    Column("caught_up", Integer),
    # of a service's version: which version is read for each version that its columns are of (JSON)
    Column("reads", Text),
)

watermarks = Table(
    "registry_watermark",
    metadata,
    Column("view", String(255), primary_key=True),
    Column("version", String(64), primary_key=True),
    Column("known_until", BigInteger, nullable=False),
    Column("position", BigInteger, nullable=False),
    Column("at", BigInteger, nullable=False),
    # of the last run that found rows: how many, and how long it took
    Column("run_rows", BigInteger),
    Column("run_micros", BigInteger),
)

# the files of its source that runs of a version have read; a watermark names the n up to which they count
file_entries = Table(
    "registry_file_entry",
    metadata,
    Column("view", String(255), primary_key=True),
    Column("version", String(64), primary_key=True),
    Column("path_digest", String(32), primary_key=True),
    Column("path", Text, nullable=False),
    Column("identity", Text, nullable=False),
    Column("token", Text, nullable=False),
    Column("n", BigInteger, nullable=False),
)

# the n that runs have recorded their files under
file_runs = Table(
    "registry_file_run",
    metadata,
    Column("view", String(255), primary_key=True),
    Column("version", String(64), primary_key=True),
    Column("n", BigInteger, primary_key=True, autoincrement=False),
    Column("token", Text, nullable=False),
)

# the greatest n of a version, and whether its rows of missing files were warned of
file_states = Table(
    "registry_file_state",
    metadata,
    Column("view", String(255), primary_key=True),
    Column("version", String(64), primary_key=True),
    Column("n", BigInteger, nullable=False),
    Column("warned", Integer, nullable=False),
)

leases = Table(
    "registry_lease",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("kind", String(16), nullable=False),
    Column("about", Text, nullable=False),
    Column("holder", Text, nullable=False),
    Column("started_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
)

# force runs that have not ended: until none of their puts can apply, runs fill the version from the beginning
forcing = Table(
    "registry_forcing",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("view", String(255), nullable=False),
    Column("version", String(64), nullable=False),
    Column("until", BigInteger, nullable=False),
)

# versions whose last run failed, until a run of them ends well
run_failures = Table(
    "registry_run_failure",
    metadata,
    Column("view", String(255), primary_key=True),
    Column("version", String(64), primary_key=True),
    Column("at", BigInteger, nullable=False),
    Column("error", Text, nullable=False),
)

# models that were logged, each with the version of the service that it takes
models = Table(
    "registry_model",
    metadata,
    Column("name", String(128), primary_key=True),
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("service", String(255), nullable=False),
    Column("service_version", String(64), nullable=False),
    Column("uri", Text, nullable=False),
    Column("training_set", Text),
    Column("logged_at", BigInteger, nullable=False),
)

# keys of the HTTP server: of each its digest alone
api_keys = Table(
    "registry_api_key",
    metadata,
    Column("id", String(12), primary_key=True),
    Column("name", String(64), nullable=False),
    Column("digest", LargeBinary, nullable=False),
    Column("scopes", String(64), nullable=False),
    Column("views", Text, nullable=False),
    Column("services", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger),
    Column("revoked_at", BigInteger),
)
