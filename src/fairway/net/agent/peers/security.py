"""How nodes prove to each other who they are: mutually authenticated TLS 1.3 under the network's own authority."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from fairway.net.enrolment import ANY_NODE, Credentials, host_name, permit_of
from fairway.net.model.errors import FairwayError
from fairway.net.model.permit import Permit
from fairway.quic import Closing, ConnectionClosed, ErrorCode, QuicConfiguration
from fairway.tls import AlertDescription, ClientConfig, Identity, ServerConfig, TlsAlert
from fairway.tls.trust import Trust, server_subject

ROUTES = "fairway-routes/1"
"""ALPN of the exchange of routes; both sides show certificates."""
JOIN = "fairway-join/1"
"""ALPN of joining and renewing; who joins has no certificate yet."""

_EXPIRED = ErrorCode.CRYPTO_ERROR + AlertDescription.CERTIFICATE_EXPIRED
_IDLE_S = 3.0
_HANDSHAKE_S = 10.0
"""A busy host may take seconds for one; how many may be under way at once is bounded elsewhere."""
_WINDOW = 65_536
_WINDOW_CAP = 1 << 20


def configuration(detection_s: float, *, calls: bool) -> QuicConfiguration:
    """QUIC between nodes. Windows are small: they bound what a peer may make a node keep, and there are many peers.

    The idle timeout only finds agents that are gone; hosts that are gone are found sooner (`watching.py`). Only who
    calls keeps the connection alive, as the other side hears that too.
    """
    return QuicConfiguration(
        idle_timeout_s=max(3 * detection_s, _IDLE_S),
        keep_alive_s=max(detection_s, _IDLE_S / 2) if calls else None,
        handshake_timeout_s=max(detection_s, _HANDSHAKE_S),
        stream_window=_WINDOW,
        stream_window_cap=_WINDOW * 4,
        connection_window=_WINDOW * 4,
        connection_window_cap=_WINDOW_CAP,
        max_streams_bidi=2,
        max_streams_uni=8,
        send_buffer=_WINDOW,
    )


def identity(credentials: Credentials) -> Identity:
    """A node's certificate chain with its key, as TLS takes it."""
    return Identity(credentials.chain, credentials.key)


def server_config(credentials: Credentials) -> ServerConfig:
    """For who is called. Nobody resumes: a session must not outlive a revocation."""
    return ServerConfig((identity(credentials),), (ROUTES, JOIN), client_ca=[credentials.authority], tickets=None)


def client_config(credentials: Credentials, alpn: str, node: str = "") -> ClientConfig:
    """For who calls `node`, or whoever lives at an address."""
    name = host_name(node) if node else ANY_NODE
    return ClientConfig(name, (alpn,), ca=[credentials.authority], identity=identity(credentials))


def reset_key(credentials: Credentials) -> bytes:
    """What lets peers know at once, after a restart, that their connections are gone (RFC 9000 section 10.3)."""
    key = credentials.key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    return hashlib.sha256(b"fairway stateless reset" + key).digest()


@dataclass(frozen=True, slots=True)
class Shown:
    """What a peer's certificate says, and when it ends."""

    permit: Permit
    expires: datetime


def shown(chain: tuple[bytes, ...]) -> Shown:
    """What the peer showed; TLS has judged that it leads to the authority. `FairwayError` if it is no node's."""
    if not chain:
        raise FairwayError("the peer shows no certificate")
    return Shown(permit_of(chain[0]), x509.load_der_x509_certificate(chain[0]).not_valid_after_utc)


def authority_by_fingerprint(chain: tuple[bytes, ...], fingerprint: bytes, now: datetime) -> None:
    """Whoever answers a host that joins must be of the network that its token is for; else `FairwayError`."""
    try:
        if len(chain) < 2 or hashlib.sha256(chain[-1]).digest() != fingerprint:
            raise ValueError("its authority is another")
        trust = Trust([x509.load_der_x509_certificate(chain[-1])])
        trust.server_key(chain[:-1], server_subject(ANY_NODE), now)
    except (ValueError, TlsAlert) as error:
        if isinstance(error, TlsAlert) and error.alert is AlertDescription.CERTIFICATE_EXPIRED:
            raise _clock_error("who answered", now) from None
        raise FairwayError(
            f"who answered is not of the network that the token is for: {error}",
            mend="look at the address; make a new token on the first host: fairway token",
        ) from None


def clock_error(who: object, error: BaseException) -> FairwayError | None:
    """What to say of `who`, if the connection ended since a certificate is not valid now by one side's clock."""
    if isinstance(error, ConnectionClosed) and certificate_expired(error.closing):
        return _clock_error(who, datetime.now(UTC))
    return None


def certificate_expired(closing: Closing) -> bool:
    """Whether the connection ended since a certificate is not valid now by the clock of the side that ended it."""
    return not closing.application and closing.code == _EXPIRED


def _clock_error(who: object, now: datetime) -> FairwayError:
    return FairwayError(
        f"by this host's clock or that of {who} a certificate is not valid now; this one says {now:%Y-%m-%d %H:%M} UTC",
        mend="set the clock that is wrong (timedatectl set-ntp true); if both are right, join anew with a token",
    )
