"""The steps that bring the registry's tables from nothing to their newest form."""

from __future__ import annotations

from headwater.database.database import Database
from headwater.database.migrations import Migrations

_FIRST = (
    "CREATE TABLE registry_schema (version INTEGER NOT NULL PRIMARY KEY, applied_at BIGINT NOT NULL)",
    "CREATE TABLE registry_setting (name VARCHAR(64) NOT NULL PRIMARY KEY, value TEXT NOT NULL)",
    "CREATE TABLE registry_revision (revision BIGINT NOT NULL PRIMARY KEY, at BIGINT NOT NULL, who TEXT NOT NULL, "
    "what VARCHAR(32) NOT NULL)",
    "CREATE TABLE registry_change (revision BIGINT NOT NULL, place INTEGER NOT NULL, kind VARCHAR(16) NOT NULL, "
    "name VARCHAR(255) NOT NULL, version VARCHAR(64), action VARCHAR(16) NOT NULL, stage TEXT NOT NULL, "
    "PRIMARY KEY (revision, place))",
    "CREATE INDEX registry_change_name ON registry_change (kind, name)",
    "CREATE TABLE registry_entity (name VARCHAR(255) NOT NULL PRIMARY KEY, definition TEXT NOT NULL)",
    "CREATE TABLE registry_pointer (kind VARCHAR(16) NOT NULL, name VARCHAR(255) NOT NULL, live VARCHAR(64), "
    "previous VARCHAR(64), waiting VARCHAR(64), PRIMARY KEY (kind, name))",
    "CREATE TABLE registry_version (kind VARCHAR(16) NOT NULL, name VARCHAR(255) NOT NULL, "
    "version VARCHAR(64) NOT NULL, definition TEXT NOT NULL, automatic INTEGER NOT NULL, held INTEGER NOT NULL, "
    "log_head BIGINT NOT NULL, revision BIGINT NOT NULL, created_at BIGINT NOT NULL, updated_at BIGINT NOT NULL, "
    "retired_at BIGINT, PRIMARY KEY (kind, name, version))",
    "CREATE TABLE registry_watermark (view VARCHAR(255) NOT NULL, version VARCHAR(64) NOT NULL, "
    "known_until BIGINT NOT NULL, position BIGINT NOT NULL, at BIGINT NOT NULL, PRIMARY KEY (view, version))",
    "CREATE TABLE registry_lease (id VARCHAR(36) NOT NULL PRIMARY KEY, kind VARCHAR(16) NOT NULL, about TEXT NOT NULL, "
    "holder TEXT NOT NULL, started_at BIGINT NOT NULL, expires_at BIGINT NOT NULL)",
)

_RUNS = (
    "ALTER TABLE registry_watermark ADD COLUMN run_rows BIGINT",
    "ALTER TABLE registry_watermark ADD COLUMN run_micros BIGINT",
)

_FILES = (
    "CREATE TABLE registry_file_entry (view VARCHAR(255) NOT NULL, version VARCHAR(64) NOT NULL, "
    "path_digest VARCHAR(32) NOT NULL, path TEXT NOT NULL, identity TEXT NOT NULL, token TEXT NOT NULL, "
    "n BIGINT NOT NULL, PRIMARY KEY (view, version, path_digest))",
    "CREATE TABLE registry_file_run (view VARCHAR(255) NOT NULL, version VARCHAR(64) NOT NULL, n BIGINT NOT NULL, "
    "token TEXT NOT NULL, PRIMARY KEY (view, version, n))",
    "CREATE TABLE registry_file_state (view VARCHAR(255) NOT NULL, version VARCHAR(64) NOT NULL, n BIGINT NOT NULL, "
    "warned INTEGER NOT NULL, PRIMARY KEY (view, version))",
)

_FORCING = (
    "CREATE TABLE registry_forcing (id VARCHAR(36) NOT NULL PRIMARY KEY, view VARCHAR(255) NOT NULL, "
    "version VARCHAR(64) NOT NULL, until BIGINT NOT NULL)",
)

_FAILURES = (
    "CREATE TABLE registry_run_failure (view VARCHAR(255) NOT NULL, version VARCHAR(64) NOT NULL, at BIGINT NOT NULL, "
    "error TEXT NOT NULL, PRIMARY KEY (view, version))",
)

_READS = (
    "ALTER TABLE registry_version ADD COLUMN caught_up INTEGER",
    "ALTER TABLE registry_version ADD COLUMN reads TEXT",
    "UPDATE registry_version SET caught_up = 1 WHERE kind = 'view' AND EXISTS (SELECT 1 FROM registry_pointer p "
    "WHERE p.kind = 'view' AND p.name = registry_version.name "
    "AND (p.live = registry_version.version OR p.previous = registry_version.version))",
)

# what was written before is not known here
_WRITTEN = (
    "ALTER TABLE registry_pointer ADD COLUMN written INTEGER",
    "UPDATE registry_pointer SET written = 1 WHERE kind = 'view'",
)

_API_KEYS = (
    "CREATE TABLE registry_api_key (id VARCHAR(12) NOT NULL PRIMARY KEY, name VARCHAR(64) NOT NULL, "
    "digest {bytes} NOT NULL, scopes VARCHAR(64) NOT NULL, views TEXT NOT NULL, services TEXT NOT NULL, "
    "created_at BIGINT NOT NULL, expires_at BIGINT, revoked_at BIGINT)",
)

# versions of another kind, `on_demand`, which former releases do not know
_ON_DEMAND: tuple[str, ...] = ()

_MODELS = (
    "CREATE TABLE registry_model (name VARCHAR(128) NOT NULL, version INTEGER NOT NULL, "
    "service VARCHAR(255) NOT NULL, service_version VARCHAR(64) NOT NULL, uri TEXT NOT NULL, training_set TEXT, "
    "logged_at BIGINT NOT NULL, PRIMARY KEY (name, version))",
)

MIGRATIONS = Migrations(
    "registry",
    "registry_schema",
    "INSERT INTO registry_schema (version, applied_at) VALUES (:version, :now)",
    (_FIRST, _RUNS, _FILES, _FORCING, _FAILURES, _READS, _WRITTEN, _API_KEYS, _ON_DEMAND, _MODELS),
)
"""In SQL that SQLite and PostgreSQL both take."""


def migrate(database: Database, now: int) -> None:
    """Bring a database to the newest schema; one that is there already is only looked at.

    Args:
        database: the database.
        now: microseconds.

    Raises:
        FormatError: the database was written by a newer headwater.
        StoreReadOnly: it needs steps, and is read-only.
    """
    # looked at without SQLAlchemy: a process that only serves does without it
    with database.reads() as reads:
        version = MIGRATIONS.version_in(reads, database.place)
    if version < len(MIGRATIONS.steps):
        MIGRATIONS.run(database.engine, now)
