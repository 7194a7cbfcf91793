"""SETTINGS (RFC 9114 section 7.2.4): what each side tells about itself once, first of all."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from fairway.http3.errors import H3Code, Http3Error
from fairway.http3.limits import MAX_SETTINGS
from fairway.wire import Reader, WireError, encode_varint

QPACK_MAX_TABLE_CAPACITY = 0x01
MAX_FIELD_SECTION_SIZE = 0x06
QPACK_BLOCKED_STREAMS = 0x07
ENABLE_CONNECT_PROTOCOL = 0x08  # RFC 9220 section 5
H3_DATAGRAM = 0x33  # RFC 9297 section 5.1
WEBTRANSPORT_DRAFT_02 = 0x2B603742  # what Chromium speaks
WEBTRANSPORT_DRAFT_07 = 0xC671706A
WT_ENABLED = 0x2C7CF000  # draft-ietf-webtrans-http3-16 section 9.2, as the next three
WT_INITIAL_MAX_DATA = 0x2B61
WT_INITIAL_MAX_STREAMS_UNI = 0x2B64
WT_INITIAL_MAX_STREAMS_BIDI = 0x2B65

RESERVED = frozenset({0x00, 0x02, 0x03, 0x04, 0x05})
"""Settings of HTTP/2 that have no meaning here (RFC 9114 sections 7.2.4.1 and 11.2.2)."""

_FLAGS = {
    ENABLE_CONNECT_PROTOCOL: "RFC 8441 section 3",
    H3_DATAGRAM: "RFC 9297 section 2.1.1",
    WT_ENABLED: "draft-ietf-webtrans-http3-16 section 3.1",
}
"""Settings that are 0 or 1, and where it says so."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Sizes are bytes. The values here are those of a peer that said nothing."""

    qpack_max_table_capacity: int = 0
    max_field_section_size: int | None = None
    """None: no limit was said."""
    qpack_blocked_streams: int = 0
    enable_connect_protocol: bool = False
    h3_datagram: bool = False
    wt_enabled: bool = False
    """WebTransport as draft-ietf-webtrans-http3-16 has it."""
    wt_initial_max_data: int = 0
    wt_initial_max_streams_uni: int = 0
    wt_initial_max_streams_bidi: int = 0
    webtransport_draft_02: bool = False
    webtransport_draft_07: int = 0

    @property
    def webtransport(self) -> bool:
        """True if WebTransport sessions are accepted, in any draft that we speak."""
        return bool(self.wt_enabled or self.webtransport_draft_02 or self.webtransport_draft_07)

    @property
    def limits_sessions(self) -> bool:
        """True if this side wants flow control within sessions (draft-ietf-webtrans-http3-16 section 5.1)."""
        return bool(self.wt_initial_max_data or self.wt_initial_max_streams_uni or self.wt_initial_max_streams_bidi)

    def _pairs(self) -> Iterator[tuple[int, int]]:
        yield QPACK_MAX_TABLE_CAPACITY, self.qpack_max_table_capacity
        if self.max_field_section_size is not None:
            yield MAX_FIELD_SECTION_SIZE, self.max_field_section_size
        yield QPACK_BLOCKED_STREAMS, self.qpack_blocked_streams
        for identifier, value in (
            (ENABLE_CONNECT_PROTOCOL, int(self.enable_connect_protocol)),
            (H3_DATAGRAM, int(self.h3_datagram)),
            (WEBTRANSPORT_DRAFT_02, int(self.webtransport_draft_02)),
            (WEBTRANSPORT_DRAFT_07, self.webtransport_draft_07),
            (WT_ENABLED, int(self.wt_enabled)),
            (WT_INITIAL_MAX_DATA, self.wt_initial_max_data),
            (WT_INITIAL_MAX_STREAMS_UNI, self.wt_initial_max_streams_uni),
            (WT_INITIAL_MAX_STREAMS_BIDI, self.wt_initial_max_streams_bidi),
        ):
            if value:
                yield identifier, value

    def encode(self, grease: tuple[int, int] | None = None) -> bytes:
        """The frame's payload; `grease` is a reserved identifier and a value that peers must ignore."""
        pairs = list(self._pairs())
        if grease is not None:
            pairs.append(grease)
        return b"".join(encode_varint(identifier) + encode_varint(value) for identifier, value in pairs)

    @classmethod
    def decode(cls, payload: bytes) -> Settings:
        """Read the frame's payload; `Http3Error` if it is cut short, repeats itself or has a reserved identifier."""
        values: dict[int, int] = {}
        reader = Reader(payload)
        try:
            while reader.remaining:
                identifier, value = reader.varint(), reader.varint()
                if identifier in RESERVED:
                    raise _error(f"identifier {identifier:#x} is reserved", "7.2.4.1")
                if identifier in values:
                    raise _error(f"identifier {identifier:#x} appears twice", "7.2.4")
                if identifier in _FLAGS and value > 1:
                    raise Http3Error(
                        H3Code.H3_SETTINGS_ERROR,
                        f"identifier {identifier:#x} is 0 or 1, not {value}",
                        section=_FLAGS[identifier],
                    )
                if len(values) >= MAX_SETTINGS:
                    raise Http3Error(H3Code.H3_EXCESSIVE_LOAD, f"more than {MAX_SETTINGS} settings")
                values[identifier] = value
        except WireError:
            raise Http3Error(
                H3Code.H3_FRAME_ERROR, "SETTINGS ends within a setting", section="RFC 9114 section 7.1"
            ) from None
        get = values.get
        return cls(
            qpack_max_table_capacity=get(QPACK_MAX_TABLE_CAPACITY, 0),
            max_field_section_size=get(MAX_FIELD_SECTION_SIZE),
            qpack_blocked_streams=get(QPACK_BLOCKED_STREAMS, 0),
            enable_connect_protocol=bool(get(ENABLE_CONNECT_PROTOCOL, 0)),
            h3_datagram=bool(get(H3_DATAGRAM, 0)),
            wt_enabled=bool(get(WT_ENABLED, 0)),
            wt_initial_max_data=get(WT_INITIAL_MAX_DATA, 0),
            wt_initial_max_streams_uni=get(WT_INITIAL_MAX_STREAMS_UNI, 0),
            wt_initial_max_streams_bidi=get(WT_INITIAL_MAX_STREAMS_BIDI, 0),
            webtransport_draft_02=bool(get(WEBTRANSPORT_DRAFT_02, 0)),
            webtransport_draft_07=get(WEBTRANSPORT_DRAFT_07, 0),
        )


def _error(reason: str, section: str) -> Http3Error:
    return Http3Error(H3Code.H3_SETTINGS_ERROR, reason, section=f"RFC 9114 section {section}")
