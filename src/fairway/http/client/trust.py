"""The `verify` and `cert` arguments of httpx, as `fairway.tls` has them."""

from __future__ import annotations

import contextlib
import os
import ssl
import warnings
from collections.abc import Iterator
from typing import Any

from cryptography import x509
from cryptography.utils import CryptographyDeprecationWarning

from fairway.tls import Identity

Verify = bool | str | ssl.SSLContext
Cert = str | tuple[str, str] | tuple[str, str, str] | None


def authorities(verify: Verify) -> tuple[bool, Any]:
    """Whether servers are verified, and the `ca` of a ClientConfig.

    True means whom httpx trusts then: $SSL_CERT_FILE, or else certifi's list. Of an SSLContext, its authorities count.
    """
    if isinstance(verify, ssl.SSLContext):
        if verify.verify_mode == ssl.CERT_NONE:
            return False, None
        loaded = verify.get_ca_certs(binary_form=True)
        if not loaded:
            raise ValueError(
                "the SSLContext holds no authorities that can be read (a directory of them is read too late): "
                "give it a file with load_verify_locations(cafile=...), or pass the file's path as verify"
            )
        return True, list(_readable(loaded))
    if isinstance(verify, str):
        return True, verify
    if not verify:
        return False, None
    if named := os.environ.get("SSL_CERT_FILE"):
        return True, named
    import certifi

    return True, certifi.where()


def _readable(loaded: list[bytes]) -> Iterator[x509.Certificate]:
    """Those that parse: one authority with an odd serial number must not cost all the others."""
    for data in loaded:
        with warnings.catch_warnings(), contextlib.suppress(ValueError):
            warnings.simplefilter("ignore", CryptographyDeprecationWarning)
            yield x509.load_der_x509_certificate(data)


def identity(cert: Cert) -> Identity | None:
    """A client's identity from PEM: one file with certificate and key, or two files, and the key's password."""
    if cert is None:
        return None
    if isinstance(cert, str):
        return Identity.from_files(cert, cert)
    password = cert[2].encode() if len(cert) == 3 else None
    return Identity.from_files(cert[0], cert[1], password)
