#!/bin/sh
# Make sure that the servers which the tests start are installed: Redis with Sentinel, PostgreSQL, a browser; wrk; and Java, on which Spark runs.
set -eu

missing() {
    packages=""
    for pair in redis-server:redis-server redis-sentinel:redis-sentinel redis-cli:redis-tools chromium:chromium wrk:wrk java:openjdk-17-jre-headless; do
        command -v "${pair%%:*}" >/dev/null || packages="$packages ${pair#*:}"
    done
    ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || packages="$packages postgresql"
    echo "$packages"
}

packages=$(missing)
[ -n "$packages" ] || exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "installing$packages, which the tests start on ports of their own" >&2
    export DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 # no service of the system's is started
    apt-get update -qq
    # shellcheck disable=SC2086
    apt-get install -y -qq $packages >/dev/null
fi
packages=$(missing)
[ -z "$packages" ] || {
    echo "the tests need servers that are not installed: run as root: apt-get install$packages" >&2
    exit 1
}
