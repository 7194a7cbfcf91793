"""Packet protection (RFC 9001 section 5), a batch at a time.

`Sealer.seal` encrypts a batch of payloads that carry consecutive packet numbers and masks all their headers
with one call of the cipher; `Opener.open_batch` takes the masks off a whole buffer of equal datagrams with
one call and decrypts each. One packet is a batch of one.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305

from fairway.quic.errors import ErrorCode, PeerError
from fairway.quic.packets.headers import (
    KEY_PHASE,
    LONG_HEADER,
    LONG_RESERVED,
    SHORT_RESERVED,
    VERSION_1,
    VERSION_2,
    Buffer,
    LongHeader,
    expand_number,
)
from fairway.tls import CipherSuite, hkdf_expand_label
from fairway.tls.key_schedule import expand, hmac_digest, key_infos, label_info

TAG_LENGTH = 16  # RFC 9001 section 5.3: all the suites in use have a tag of 16 bytes
SAMPLE_LENGTH = 16  # section 5.4.2
SHORT_MASKED, LONG_MASKED = 0x1F, 0x0F  # the bits of the first byte that are masked: section 5.4.1

CONFIDENTIALITY_LIMIT = {  # packets sealed with one key: RFC 9001 section 6.6
    CipherSuite.AES_128_GCM_SHA256: 1 << 23,
    CipherSuite.AES_256_GCM_SHA384: 1 << 23,
    CipherSuite.CHACHA20_POLY1305_SHA256: 1 << 62,
}
INTEGRITY_LIMIT = {  # forged packets over the whole connection: section 6.6
    CipherSuite.AES_128_GCM_SHA256: 1 << 52,
    CipherSuite.AES_256_GCM_SHA384: 1 << 52,
    CipherSuite.CHACHA20_POLY1305_SHA256: 1 << 36,
}

_INITIAL_SALT = {
    VERSION_1: bytes.fromhex("38762cf7f55934b34d179ae6a4c80cadccbb7f0a"),  # RFC 9001 section 5.2
    VERSION_2: bytes.fromhex("0dede3def700a6db819381be6e269dcbf9bd2ed9"),  # RFC 9369 section 3.3.1
}
_RETRY_KEY = {  # RFC 9001 section 5.8, RFC 9369 section 3.3.3
    VERSION_1: (
        bytes.fromhex("be0c690b9f66575a1d766b54e368c84e"),
        bytes.fromhex("461599d35d632bf2239825bb"),
    ),
    VERSION_2: (
        bytes.fromhex("8fb4b01b56ac48e260fbcbcead7ccc92"),
        bytes.fromhex("d86969bc2d7c6d9990efb04a"),
    ),
}

_LABELS = {VERSION_1: "quic ", VERSION_2: "quicv2 "}  # RFC 9001 section 5.1, RFC 9369 section 3.3.2

_MASKS = struct.Struct(">BI11x").iter_unpack  # per 16-byte block: one byte, four bytes, the rest unused
_MASK = struct.Struct(">BI11x").unpack
_BYTE = tuple(bytes((i,)) for i in range(256))
_from_bytes = int.from_bytes

MaskFunction = Callable[[bytes], bytes]


_INITIAL_LABELS = (label_info("client in", 32), label_info("server in", 32))


def initial_secrets(version: int, destination: bytes) -> tuple[bytes, bytes]:
    """The client's and the server's Initial secret, from the client's first Destination Connection ID."""
    client, server = expand("sha256", hmac_digest("sha256", _INITIAL_SALT[version], destination), _INITIAL_LABELS)
    return client, server


def packet_keys(version: int, suite: CipherSuite, secret: bytes) -> tuple[bytes, bytes, bytes]:
    """Key, IV and header protection key of a secret (RFC 9001 section 5.1)."""
    key, iv, hp = expand(suite.hash_name, secret, key_infos(suite, _LABELS[version]))
    return key, iv, hp


def updated_secret(version: int, suite: CipherSuite, secret: bytes) -> bytes:
    """The secret of the next key phase (RFC 9001 section 6.1)."""
    return hkdf_expand_label(suite.hash_name, secret, _LABELS[version] + "ku", b"", len(secret))


def retry_tag(version: int, original_destination: bytes, retry: bytes) -> bytes:
    """The integrity tag of a Retry packet given without it (RFC 9001 section 5.8)."""
    key, nonce = _RETRY_KEY[version]
    pseudo = bytes((len(original_destination),)) + original_destination + retry
    return AESGCM(key).encrypt(nonce, b"", pseudo)


# Looking a member of an enum up costs ten times what a name of the module does.
_CHACHA20 = CipherSuite.CHACHA20_POLY1305_SHA256

_ECB = modes.ECB()  # it has no state
_AES = {16: algorithms.AES128, 32: algorithms.AES256}  # they need not look up how long the key is


def header_masks(suite: CipherSuite, key: bytes) -> MaskFunction:
    """A function from gathered 16-byte samples to as many 16-byte blocks, of which 5 bytes are the mask."""
    if suite is _CHACHA20:

        def chacha(samples: bytes) -> bytes:
            blocks = []
            for i in range(0, len(samples), SAMPLE_LENGTH):  # RFC 9001 section 5.4.4
                cipher = Cipher(algorithms.ChaCha20(key, samples[i : i + SAMPLE_LENGTH]), mode=None)
                blocks.append(cipher.encryptor().update(bytes(SAMPLE_LENGTH)))
            return b"".join(blocks)

        return chacha
    return Cipher(_AES[len(key)](key), _ECB).encryptor().update


def _aead(suite: CipherSuite, key: bytes) -> AESGCM | ChaCha20Poly1305:
    return ChaCha20Poly1305(key) if suite is _CHACHA20 else AESGCM(key)


class Sealer:
    """Seals what one endpoint sends with one key; counts what it sealed."""

    __slots__ = ("_encrypt", "_iv", "masks", "sealed", "suite")

    def __init__(self, suite: CipherSuite, key: bytes, iv: bytes, masks: MaskFunction) -> None:
        self.suite = suite
        self.sealed = 0
        self._encrypt = _aead(suite, key).encrypt
        self._iv = _from_bytes(iv, "big")
        self.masks = masks

    @property
    def exhausted(self) -> bool:
        """True if this key may not seal a whole further batch (RFC 9001 section 6.6)."""
        return self.sealed + 64 >= CONFIDENTIALITY_LIMIT[self.suite]

    @property
    def worn(self) -> bool:
        """True once half of what this key may seal is sealed: time for an update."""
        return 2 * self.sealed >= CONFIDENTIALITY_LIMIT[self.suite]

    def seal(self, first: int, destination: bytes, number: int, length: int, payloads: Sequence[bytes]) -> bytes:
        """Short header packets with consecutive numbers from `number`, one after the other.

        `first` is the unmasked first byte but for the number's length, which is `length` bytes.
        """
        first |= length - 1
        head = _BYTE[first] + destination
        wrap = (1 << (8 * length)) - 1
        if len(payloads) == 1:  # acknowledgements, requests, the end of a handshake
            header = head + (number & wrap).to_bytes(length, "big")
            return self._seal_one(header, number, length, payloads[0], SHORT_MASKED)
        encrypt, iv = self._encrypt, self._iv
        numbers = range(number, number + len(payloads))
        sealed = [
            encrypt((iv ^ n).to_bytes(12, "big"), payload, head + (n & wrap).to_bytes(length, "big"))
            for n, payload in zip(numbers, payloads, strict=True)
        ]
        low, high = 4 - length, 4 - length + SAMPLE_LENGTH
        masks = self.masks(b"".join([packet[low:high] for packet in sealed]))
        shift = 8 * low
        out: list[bytes] = []
        for n, (first_mask, number_mask), packet in zip(numbers, _MASKS(masks), sealed, strict=True):
            masked = (n & wrap) ^ (number_mask >> shift)
            out += (_BYTE[first ^ (first_mask & SHORT_MASKED)], destination, masked.to_bytes(length, "big"), packet)
        self.sealed += len(sealed)
        return b"".join(out)

    def seal_long(self, header: bytes, number: int, length: int, payload: bytes) -> bytes:
        """One long header packet; `header` ends with its `length` bytes of packet number."""
        return self._seal_one(header, number, length, payload, LONG_MASKED)

    def _seal_one(self, header: bytes, number: int, length: int, payload: bytes, masked_bits: int) -> bytes:
        packet = self._encrypt((self._iv ^ number).to_bytes(12, "big"), payload, header)
        low, size = 4 - length, len(header)
        first_mask, number_mask = _MASK(self.masks(packet[low : low + SAMPLE_LENGTH]))
        mask: int = (first_mask & masked_bits) << 8 * (size - 1) | number_mask >> 8 * low  # over the whole header
        self.sealed += 1
        return (_from_bytes(header, "big") ^ mask).to_bytes(size, "big") + packet


class Opener:
    """Opens what the peer sealed with one key; counts what did not open."""

    __slots__ = ("_decrypt", "_iv", "masks", "suite")

    def __init__(self, suite: CipherSuite, key: bytes, iv: bytes, masks: MaskFunction) -> None:
        self.suite = suite
        self._decrypt = _aead(suite, key).decrypt
        self._iv = _from_bytes(iv, "big")
        self.masks = masks

    def open_batch(
        self, buffer: Buffer, size: int, segment: int, destination: bytes, largest: int, phase: int
    ) -> tuple[list[int], list[bytes], list[tuple[int, int]]]:
        """Open short header packets, one a datagram, of `segment` bytes each (the last may be shorter).

        `largest` is the largest packet number received, `phase` the current key phase bit (0 or KEY_PHASE).
        Gives the packet numbers and payloads that opened, in order, and where the other datagrams are.
        """
        body = 1 + len(destination)
        sample = body + 4
        stop = size - (sample + SAMPLE_LENGTH) + 1  # a datagram that starts there or later has no sample
        starts = range(0, max(stop, 0), segment)
        masks = self.masks(b"".join([buffer[at + sample : at + sample + SAMPLE_LENGTH] for at in starts]))
        decrypt, iv, view = self._decrypt, self._iv, memoryview(buffer)
        numbers: list[int] = []
        payloads: list[bytes] = []
        others: list[tuple[int, int]] = []
        last, length, shift, wrap = -1, 0, 0, 0
        head = b""
        for at, (first_mask, number_mask) in zip(starts, _MASKS(masks), strict=True):
            end = at + segment
            if end > size:
                end = size
            first = buffer[at] ^ (first_mask & SHORT_MASKED)
            if first != last:
                if first & LONG_HEADER or (first & KEY_PHASE) != phase:
                    others.append((at, end))
                    continue
                last = first
                length = (first & 3) + 1
                shift, wrap = 8 * (4 - length), (1 << (8 * length)) - 1
                head = _BYTE[first] + destination
            low = at + body
            truncated = _from_bytes(buffer[low : low + length], "big") ^ (number_mask >> shift)
            # The common case of RFC 9000 appendix A.3 first: the next number, nothing wrapped.
            number = largest + 1
            if number & wrap != truncated:
                number = expand_number(truncated, length, largest)
            try:
                payload = decrypt(
                    (iv ^ number).to_bytes(12, "big"),
                    view[low + length : end],
                    head + truncated.to_bytes(length, "big"),
                )
            except InvalidTag:
                others.append((at, end))
                continue
            if first & SHORT_RESERVED:
                raise PeerError(
                    ErrorCode.PROTOCOL_VIOLATION, "reserved bits are set", section="RFC 9000 section 17.3.1"
                )
            numbers.append(number)
            payloads.append(payload)
            if number > largest:
                largest = number
        return numbers, payloads, others

    def open_long(self, buffer: Buffer, start: int, header: LongHeader, largest: int) -> tuple[int, bytes] | None:
        """Packet number and payload of one long header packet; None if it does not open."""
        offset = header.number_offset
        sample = offset + 4
        if sample + SAMPLE_LENGTH > header.end:
            return None
        first_mask, number_mask = _MASK(self.masks(bytes(buffer[sample : sample + SAMPLE_LENGTH])))
        first = buffer[start] ^ (first_mask & LONG_MASKED)
        length = (first & 3) + 1
        body = offset + length
        truncated = _from_bytes(buffer[offset:body], "big") ^ (number_mask >> 8 * (4 - length))
        number = expand_number(truncated, length, largest)
        try:
            payload = self._decrypt(
                (self._iv ^ number).to_bytes(12, "big"),
                memoryview(buffer)[body : header.end],
                b"".join((_BYTE[first], buffer[start + 1 : offset], truncated.to_bytes(length, "big"))),
            )
        except InvalidTag:
            return None
        if first & LONG_RESERVED:
            raise PeerError(ErrorCode.PROTOCOL_VIOLATION, "reserved bits are set", section="RFC 9000 section 17.2")
        return number, payload


def make_sealer(version: int, suite: CipherSuite, secret: bytes) -> Sealer:
    """The sealer of a traffic secret."""
    key, iv, hp = packet_keys(version, suite, secret)
    return Sealer(suite, key, iv, header_masks(suite, hp))


def make_opener(version: int, suite: CipherSuite, secret: bytes) -> Opener:
    """The opener of a traffic secret."""
    key, iv, hp = packet_keys(version, suite, secret)
    return Opener(suite, key, iv, header_masks(suite, hp))


class ApplicationKeys:
    """Both directions' 1-RTT keys and their updates (RFC 9001 section 6).

    The keys of the next phase are made when the first packet with a flipped phase bit arrives, genuine or not, and
    kept: such packets tell nothing by the time that they take (section 6.3). The previous keys are kept for reordered
    packets.
    """

    __slots__ = (
        "_next_open", "_next_seal", "_opener", "_previous", "_receive", "_sealer", "_send", "_suite", "_version",
        "awaiting", "first_number", "first_received", "phase", "previous_until", "updates",
    )  # fmt: skip

    def __init__(self, version: int, suite: CipherSuite, send: bytes, receive: bytes = b"") -> None:
        self._version, self._suite, self._send, self._receive = version, suite, send, receive
        self._sealer: Sealer | None = None
        self._opener: Opener | None = None
        self.phase = 0
        self.updates = 0
        self.awaiting = False
        """True from an update of ours until a packet of the new phase is acknowledged."""
        self.first_number = 0
        """The first packet number that we sent in this phase."""
        self.first_received: int | None = 0
        """The packet number that brought the peer to this phase; None while it is not there yet."""
        self._previous: Opener | None = None
        self.previous_until = 0.0
        self._next_seal: Sealer | None = None
        self._next_open: Opener | None = None

    @property
    def sealer(self) -> Sealer:
        """What seals in this phase; the first one is made when it is first used."""
        if self._sealer is None:
            self._sealer = make_sealer(self._version, self._suite, self._send)
        return self._sealer

    @property
    def opener(self) -> Opener:
        """What opens in this phase; the first one is made when it is first used."""
        if self._opener is None:
            self._opener = make_opener(self._version, self._suite, self._receive)
        return self._opener

    def open_with(self, receive: bytes) -> None:
        """The peer's secret, which a server that took early data has later than its own."""
        self._receive = receive

    def _prepare(self) -> tuple[Sealer, Opener]:
        """The keys of the next phase, made once; the header keys are never updated (section 6)."""
        if self._next_seal is None or self._next_open is None:
            version, suite = self._version, self._suite
            key, iv, _ = packet_keys(version, suite, updated_secret(version, suite, self._send))
            self._next_seal = Sealer(suite, key, iv, self.sealer.masks)
            key, iv, _ = packet_keys(version, suite, updated_secret(version, suite, self._receive))
            self._next_open = Opener(suite, key, iv, self.opener.masks)
        return self._next_seal, self._next_open

    def update(self, next_number: int, received: int | None, until: float) -> None:
        """Go to the next phase; our packets from `next_number` on carry it.

        `received` is the peer's packet that asked for it, None if we begin. The old keys open packets `until` then.
        """
        self._previous, self.previous_until = self.opener, until
        self._sealer, self._opener = self._prepare()
        self.first_received = received
        self._send = updated_secret(self._version, self._suite, self._send)
        self._receive = updated_secret(self._version, self._suite, self._receive)
        self.phase ^= KEY_PHASE
        self.updates += 1
        self.awaiting = True
        self.first_number = next_number
        self._next_seal = self._next_open = None

    def open_other(
        self, buffer: Buffer, start: int, end: int, destination: bytes, largest: int, now: float
    ) -> tuple[int, bytes, bool] | None:
        """Open one datagram whose phase bit is not the current one: number, payload, "is of the next phase"."""
        packet = buffer[start:end]
        size = end - start
        other = self.phase ^ KEY_PHASE
        numbers, payloads, _ = self._prepare()[1].open_batch(packet, size, size, destination, largest, other)
        if numbers:
            return numbers[0], payloads[0], True
        if self._previous is not None and now < self.previous_until:
            numbers, payloads, _ = self._previous.open_batch(packet, size, size, destination, largest, other)
            if numbers:
                return numbers[0], payloads[0], False
        return None
