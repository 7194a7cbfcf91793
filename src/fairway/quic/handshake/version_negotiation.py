"""Which version a connection speaks (RFC 9368), decided from what both sides say; nothing here keeps anything.

A client begins in one version. A server that does not speak it lists those that it does (Version Negotiation), and the
client begins again: incompatible negotiation, one round trip. One that speaks it may answer in another version that
the client offers: compatible negotiation, at no cost. Versions 1 and 2 are compatible with each other
(RFC 9369 section 4). Both sides then say under TLS's protection what they speak, so that nobody on the way can
have made them settle for less.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from fairway.quic.errors import ErrorCode, PeerError
from fairway.quic.packets.headers import VERSION_1
from fairway.quic.version_information import VersionInformation

_V1_ALONE = VersionInformation(VERSION_1, (VERSION_1,))


def after_version_negotiation(ours: Sequence[int], offered: Collection[int]) -> int | None:
    """What a client begins again with when a server offers these versions; None if it speaks none of them."""
    return next((version for version in ours if version in offered), None)


def served_version(original: int, preferred: Sequence[int], client: VersionInformation | None) -> int:
    """What a server answers in: the first of `preferred` that the client offers, else what the client began with.

    Raises `PeerError` if the client says that it began with another version than its packets did.
    """
    if client is None:
        return original
    if client.chosen != original:
        raise _error("the client's chosen version is not that of its packets")
    return next((version for version in preferred if version in client.available), original)


def check_server(
    server: VersionInformation | None, *, began: int, speaks: int, reacted: bool, ours: Sequence[int]
) -> None:
    """A client compares what the server says with what its packets did; `PeerError` where they differ (section 4).

    `began` is the version of the client's last first flight, `speaks` that of the server's packets; `reacted` says
    that a Version Negotiation packet, which anybody can forge, made the client begin again with `began`.
    """
    if server is None:
        if not reacted and speaks == began:
            return
        if speaks != VERSION_1:  # section 8: servers of version 1 alone may never have heard of all this
            raise _error("the server does not confirm the version")
        server = _V1_ALONE
    if server.chosen != speaks:
        raise _error("the server's chosen version is not that of its packets")
    if reacted and after_version_negotiation(ours, {*server.available, speaks} if server.available else ()) != began:
        raise _error("the server speaks a version that would have been preferred: a downgrade")


def _error(reason: str) -> PeerError:
    return PeerError(ErrorCode.VERSION_NEGOTIATION_ERROR, reason, section="RFC 9368 section 4")
