"""Feast's own HTTP server on a project that its Python side made; run in Feast's environment."""

from __future__ import annotations

import sys

from feast import FeatureStore, RepoConfig
from feast.feature_server import start_server


def main() -> None:
    """`python -m benchmarks.http.feast_server REGISTRY REDIS_PORT PORT WORKERS MAX_REQUESTS`; 0: without restarts."""
    registry, redis, port, workers, most = sys.argv[1:6]
    store = FeatureStore(
        config=RepoConfig(
            project="bench",
            registry=registry,
            provider="local",
            online_store={"type": "redis", "connection_string": f"127.0.0.1:{redis}"},
            offline_store={"type": "file"},
            entity_key_serialization_version=3,
        )
    )
    start_server(
        store,
        host="127.0.0.1",
        port=int(port),
        no_access_log=True,
        workers=int(workers),
        worker_connections=1_000,
        max_requests=int(most),
        max_requests_jitter=50 if int(most) else 0,
        keep_alive_timeout=30,
        registry_ttl_sec=60,
        tls_key_path="",
        tls_cert_path="",
        metrics=False,
    )


if __name__ == "__main__":
    main()
