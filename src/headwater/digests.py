"""BLAKE2b, the digest of keys, fingerprints and names, without the OpenSSL that `hashlib` loads (3 ms of a start)."""

try:
    from _blake2 import blake2b
except ImportError:
    from hashlib import blake2b

__all__ = ["blake2b"]
