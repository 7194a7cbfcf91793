"""What lets a host join once: the fingerprint of the network's authority, and a secret that the authority knows."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from dataclasses import dataclass

from fairway.net.model.errors import UsageError

_PREFIX = "fairway1-"
_FINGERPRINT_BYTES = 32
_NUMBER_BYTES = 8
SECRET_BYTES = 16


@dataclass(frozen=True, slots=True)
class Token:
    """One token. What it allows (name, blocks, until when) the authority keeps; it knows only a hash of the secret."""

    fingerprint: bytes
    """SHA-256 of the authority's certificate: who joins asks nobody of another network."""
    number: bytes
    secret: bytes

    def proof(self, node: str, request: bytes) -> bytes:
        """What shows that whoever asks to be `node`, with the key of `request`, has the token.

        Any member may be asked, and passes the question on: the secret itself would let that one join in our place.
        """
        return proof(hashlib.sha256(self.secret).digest(), node, request)

    def __str__(self) -> str:
        data = self.fingerprint + self.number + self.secret
        return _PREFIX + base64.urlsafe_b64encode(data).decode().rstrip("=")

    @classmethod
    def parse(cls, text: str) -> Token:
        """The token in `text`; `UsageError` if it is none."""
        try:
            if not text.startswith(_PREFIX):
                raise ValueError
            packed = text.removeprefix(_PREFIX)
            data = base64.b64decode(packed + "=" * (-len(packed) % 4), altchars=b"-_", validate=True)
            if len(data) != _FINGERPRINT_BYTES + _NUMBER_BYTES + SECRET_BYTES:
                raise ValueError
        except (ValueError, binascii.Error):
            raise UsageError("that is no token", mend="make one on the first host: fairway token") from None
        after = _FINGERPRINT_BYTES + _NUMBER_BYTES
        return cls(data[:_FINGERPRINT_BYTES], data[_FINGERPRINT_BYTES:after], data[after:])


def proof(secret_hash: bytes, node: str, request: bytes) -> bytes:
    """As `Token.proof`, for who knows no more than the SHA-256 of the secret."""
    return hmac.digest(secret_hash, node.encode() + b"\0" + request, "sha256")
