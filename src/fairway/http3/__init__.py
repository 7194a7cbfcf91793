"""HTTP/3 (RFC 9114) without I/O: an `Http3Connection` over a QUIC connection, events in, events out."""

from fairway.http3.connection import ALPN, DEFAULT_SETTINGS, Http3Connection
from fairway.http3.errors import H3Code, code_name
from fairway.http3.events import (
    BodyReadable,
    DatagramReceived,
    Event,
    Fields,
    GoawayReceived,
    InformationalReceived,
    MessageFailed,
    PriorityUpdated,
    ReadingStopped,
    RequestReceived,
    ResponseReceived,
    SettingsReceived,
    StreamAborted,
    TrailersReceived,
    TunnelStreamOpened,
)
from fairway.http3.priorities import Priority
from fairway.http3.settings import Settings

__all__ = [
    "ALPN",
    "DEFAULT_SETTINGS",
    "BodyReadable",
    "DatagramReceived",
    "Event",
    "Fields",
    "GoawayReceived",
    "H3Code",
    "Http3Connection",
    "InformationalReceived",
    "MessageFailed",
    "Priority",
    "PriorityUpdated",
    "ReadingStopped",
    "RequestReceived",
    "ResponseReceived",
    "Settings",
    "SettingsReceived",
    "StreamAborted",
    "TrailersReceived",
    "TunnelStreamOpened",
    "code_name",
]
