"""Certificates for HTTPS: looked at before a server begins."""

from __future__ import annotations

import ssl
from pathlib import Path

from headwater.errors import UsageError


def check_certificate(certificate: Path | None, private_key: Path | None) -> None:
    """Refuse a certificate and key that TLS cannot be done with.

    Raises:
        UsageError: saying which file, and what is wrong.
    """
    if certificate is None and private_key is None:
        return
    if certificate is None or private_key is None:
        raise UsageError("--tls-cert and --tls-key go together: give both")
    for option, file in (("--tls-cert", certificate), ("--tls-key", private_key)):
        if not file.is_file():
            raise UsageError(f"{option} {file}: no such file")
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, private_key, password=_no_password)
    except (OSError, ValueError) as bad:
        raise UsageError(f"--tls-cert {certificate}, --tls-key {private_key}: cannot be used: {bad}") from None


def _no_password() -> str:
    raise ValueError("the key is encrypted: write it without a password, readable by the server's user alone")
