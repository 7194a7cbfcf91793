"""Field sections to bytes and back (RFC 9204), by ls-qpack; here stand its bounds and the meaning of its errors.

ls-qpack lets two breaches pass that do no harm, and that only a second reading of the whole encoder stream would show:
an entry that exceeds the table by less than its name and overhead (section 3.2.2), which it drops at once, and a base
below zero where all references point past it (section 4.5.1.2).
"""

from __future__ import annotations

from pylsqpack import Decoder, DecoderStreamError, DecompressionFailed, Encoder, EncoderStreamError, StreamBlocked

from fairway.http3.errors import FieldsTooLargeError, H3Code, Http3Error
from fairway.http3.fields import Fields
from fairway.http3.limits import (
    MAX_FIELD_LINES,
    QPACK_ENCODER_CAPACITY_CAP,
    UNSCANNED_FIELDS,
)
from fairway.http3.settings import Settings
from fairway.quic import UsageError

_NO_LINES = b"\0\0"
"""The prefix alone: a section without lines, as trailers may be; ls-qpack takes it for an error."""


class FieldCoder:
    """Both directions of one connection. What has to go on our two QPACK streams gathers in the `*_out` attributes."""

    def __init__(self, local: Settings) -> None:
        self._decoder = Decoder(local.qpack_max_table_capacity, local.qpack_blocked_streams)
        self._encoder = Encoder()
        self.encoder_out = b""
        self.decoder_out = b""

    def use(self, settings: Settings) -> None:
        """The peer's settings: what its decoder allows our encoder."""
        capacity = settings.qpack_max_table_capacity
        if capacity > QPACK_ENCODER_CAPACITY_CAP:
            capacity = 0
        self.encoder_out += self._encoder.apply_settings(capacity, min(settings.qpack_blocked_streams, 1 << 16))

    def encode(self, stream_id: int, fields: Fields) -> bytes:
        """A field section."""
        try:
            instructions, block = self._encoder.encode(stream_id, fields)
        except ValueError as error:
            raise UsageError(f"the fields cannot be encoded: {error}") from None
        if instructions:
            self.encoder_out += instructions
        return block

    def decode(self, stream_id: int, block: bytes) -> Fields | None:
        """The fields, or None while table entries are missing: `feed_encoder` names the stream when they are there.

        Raises `FieldsTooLargeError`, and `Http3Error` QPACK_DECOMPRESSION_FAILED.
        """
        if block == _NO_LINES:
            return []
        if block[:1] == b"\0" and block[1:2] >= b"\x80":
            raise _failed(stream_id, "4.5.1.2")  # a negative base, which ls-qpack lets pass where nothing refers to it
        if len(block) > UNSCANNED_FIELDS and count_lines(block, MAX_FIELD_LINES) > MAX_FIELD_LINES:
            raise FieldsTooLargeError(f"more than {MAX_FIELD_LINES} field lines")
        try:
            acknowledgement, fields = self._decoder.feed_header(stream_id, block)
        except StreamBlocked:
            return None
        except DecompressionFailed:
            raise _failed(stream_id) from None
        if acknowledgement:
            self.decoder_out += acknowledgement
        return fields

    def resume(self, stream_id: int) -> Fields:
        """The fields of a section for which `feed_encoder` has brought what was missing."""
        try:
            acknowledgement, fields = self._decoder.resume_header(stream_id)
        except (DecompressionFailed, StreamBlocked):
            raise _failed(stream_id) from None
        self.decoder_out += acknowledgement
        return fields

    def cancel(self, stream_id: int) -> None:
        """A section of this stream will not be decoded (RFC 9204 section 2.2.2.2)."""
        self.decoder_out += self._decoder.cancel_stream(stream_id)

    def feed_encoder(self, data: bytes) -> list[int]:
        """Bytes of the peer's encoder stream; the streams whose sections can be decoded now."""
        try:
            return self._decoder.feed_encoder(data)
        except EncoderStreamError:
            raise Http3Error(
                H3Code.QPACK_ENCODER_STREAM_ERROR,
                "the encoder stream has an instruction that cannot be obeyed",
                section="RFC 9204 section 4.3",
            ) from None

    def feed_decoder(self, data: bytes) -> None:
        """Bytes of the peer's decoder stream."""
        try:
            self._encoder.feed_decoder(data)
        except DecoderStreamError:
            raise Http3Error(
                H3Code.QPACK_DECODER_STREAM_ERROR,
                "the decoder stream acknowledges what was not sent",
                section="RFC 9204 section 4.4",
            ) from None


def count_lines(block: bytes, limit: int) -> int:
    """Field lines in an encoded section (RFC 9204 section 4.5), counted up to one past `limit`; nothing is decoded."""
    at = _after_integer(block, _after_integer(block, 0, 8), 7)
    lines = 0
    while at < len(block) and lines <= limit:
        lines += 1
        first = block[at]
        if first & 0x80:  # indexed
            at = _after_integer(block, at, 6)
        elif first & 0x40:  # literal with name reference
            at = _after_string(block, _after_integer(block, at, 4), 7)
        elif first & 0x20:  # literal with literal name
            at = _after_string(block, _after_string(block, at, 3), 7)
        elif first & 0x10:  # indexed, post-base
            at = _after_integer(block, at, 4)
        else:  # literal with post-base name reference
            at = _after_string(block, _after_integer(block, at, 3), 7)
    return lines


def _after_integer(block: bytes, at: int, prefix: int) -> int:
    """Where the prefixed integer at `at` ends (RFC 7541 section 5.1); past the end if it is cut short."""
    if at >= len(block) or block[at] & ((1 << prefix) - 1) != (1 << prefix) - 1:
        return at + 1
    at += 1
    while at < len(block) and block[at] & 0x80:
        at += 1
    return at + 1


def _after_string(block: bytes, at: int, prefix: int) -> int:
    """Where the string literal at `at` ends, its length in `prefix` bits (RFC 7541 section 5.2)."""
    if at >= len(block):
        return at + 1
    mask = (1 << prefix) - 1
    length = block[at] & mask
    after = _after_integer(block, at, prefix)
    if length == mask:
        for index in range(min(after - at - 1, 5)):
            if at + 1 + index < len(block):
                length += (block[at + 1 + index] & 0x7F) << (7 * index)
    return after + length


def _failed(stream_id: int, section: str = "2.2") -> Http3Error:
    return Http3Error(
        H3Code.QPACK_DECOMPRESSION_FAILED,
        f"the field section of stream {stream_id} cannot be decoded",
        section=f"RFC 9204 section {section}",
    )
