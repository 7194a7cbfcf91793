import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairway.tls import AlertDescription, TlsAlert, extensions, limits, messages
from fairway.wire import WireError

u16 = st.integers(0, 0xFFFF)
u32 = st.integers(0, 0xFFFFFFFF)
short = st.binary(max_size=40)
filled = st.binary(min_size=1, max_size=40)
known_order = [kind for kind in extensions.ExtensionType if kind != extensions.ExtensionType.PRE_SHARED_KEY]
bodies = st.dictionaries(u16.filter(lambda kind: kind != 41) | st.sampled_from(known_order), short, max_size=8)
codes = st.lists(u16, min_size=1, max_size=20).map(tuple)
entry = st.builds(messages.CertificateEntry, filled, bodies)

MESSAGES = {
    "ClientHello": st.builds(
        messages.ClientHello, st.binary(min_size=32, max_size=32), st.binary(max_size=32), codes, bodies
    ),
    "ServerHello": st.builds(
        messages.ServerHello, st.binary(min_size=32, max_size=32), st.binary(max_size=32), u16, bodies
    ),
    "EncryptedExtensions": st.builds(messages.EncryptedExtensions, bodies),
    "CertificateRequest": st.builds(messages.CertificateRequest, short, bodies),
    "Certificate": st.builds(messages.Certificate, short, st.lists(entry, max_size=4).map(tuple)),
    "CertificateVerify": st.builds(messages.CertificateVerify, u16, short),
    "Finished": st.builds(messages.Finished, short),
    "NewSessionTicket": st.builds(messages.NewSessionTicket, u32, u32, short, filled, bodies),
}

EXTENSIONS = {
    "codes": codes,
    "server_name": st.from_regex(r"[a-z0-9-]{1,20}(\.[a-z0-9-]{1,20}){0,3}", fullmatch=True),
    "protocols": st.lists(filled, min_size=1, max_size=5).map(tuple),
    "key_share": st.tuples(u16, filled),
    "code": u16,
    "versions": codes,
    "cookie": filled,
    "psk_modes": filled,
    "max_early_data": u32,
}


def encode(name: str, value: object) -> bytes:
    encoder = getattr(extensions, f"encode_{name}")
    return encoder(*value) if name == "key_share" else encoder(value)


class TestMessages:
    @pytest.mark.parametrize("name", MESSAGES)
    @given(data=st.data())
    def test_a_message_survives_the_round_trip(self, name: str, data: st.DataObject) -> None:
        message = data.draw(MESSAGES[name])
        encoded = message.encode()
        assert encoded[0] == message.kind
        assert int.from_bytes(encoded[1:4], "big") == len(encoded) - 4
        again = type(message).decode(encoded[4:])
        assert again == message
        assert again.encode() == encoded  # extensions keep their order

    @pytest.mark.parametrize("name", [name for name in MESSAGES if name != "Finished"])
    @given(data=st.data())
    def test_a_body_that_is_cut_or_too_long_is_a_wire_error(self, name: str, data: st.DataObject) -> None:
        message = data.draw(MESSAGES[name])
        body = message.encode()[4:]
        with pytest.raises(WireError):
            type(message).decode(body + b"\x00")
        cut = st.integers(0, len(body) - 1)
        if name in ("ClientHello", "ServerHello"):  # which may end before their extensions
            end = len(body) - len(extensions.encode_extensions(message.extensions))
            cut = cut.filter(lambda length: length != end)
        length = data.draw(cut)
        with pytest.raises(WireError):
            type(message).decode(body[:length])

    @pytest.mark.parametrize("name", MESSAGES)
    @given(body=st.binary(max_size=200))
    def test_any_body_decodes_or_is_a_typed_error(self, name: str, body: bytes) -> None:
        with contextlib.suppress(WireError, TlsAlert):
            getattr(messages, name).decode(body)

    def test_compression_is_refused(self) -> None:
        hello = messages.ClientHello(bytes(32), b"", (0x1301,), {}).encode()[4:]
        with pytest.raises(TlsAlert) as raised:
            messages.ClientHello.decode(hello.replace(b"\x01\x00\x00\x00", b"\x01\x01\x00\x00"))
        assert raised.value.alert is AlertDescription.ILLEGAL_PARAMETER

    def test_a_pre_shared_key_must_be_the_last_extension(self) -> None:
        hello = messages.ClientHello(bytes(32), b"", (0x1301,), {41: b"", 0: b""})
        with pytest.raises(TlsAlert) as raised:
            messages.ClientHello.decode(hello.encode()[4:])
        assert raised.value.section == "RFC 8446 section 4.2.11"
        hello = messages.ClientHello(bytes(32), b"", (0x1301,), {0: b"", 41: b""})
        assert messages.ClientHello.decode(hello.encode()[4:]) == hello

    def test_a_server_of_another_version_is_refused(self) -> None:
        hello = messages.ServerHello(bytes(32), b"", 0x1301, {}).encode()[4:]
        with pytest.raises(TlsAlert) as raised:
            messages.ServerHello.decode(b"\x03\x02" + hello[2:])
        assert raised.value.alert is AlertDescription.PROTOCOL_VERSION

    def test_a_retry_is_known_by_its_random(self) -> None:
        assert messages.ServerHello(messages.RETRY_RANDOM, b"", 0x1301, {}).is_retry
        assert not messages.ServerHello(bytes(32), b"", 0x1301, {}).is_retry

    def test_a_chain_with_too_many_certificates_is_refused(self) -> None:
        entries = (messages.CertificateEntry(b"x", {}),) * (limits.MAX_CHAIN_CERTIFICATES + 1)
        body = messages.Certificate(b"", entries).encode()[4:]
        with pytest.raises(TlsAlert) as raised:
            messages.Certificate.decode(body)
        assert raised.value.alert is AlertDescription.BAD_CERTIFICATE

    def test_a_certificate_that_is_too_big_is_refused(self) -> None:
        entries = (messages.CertificateEntry(bytes(limits.MAX_CERTIFICATE_BYTES + 1), {}),)
        body = messages.Certificate(b"", entries).encode()[4:]
        with pytest.raises(TlsAlert) as raised:
            messages.Certificate.decode(body)
        assert raised.value.alert is AlertDescription.BAD_CERTIFICATE


class TestExtensions:
    @pytest.mark.parametrize("name", EXTENSIONS)
    @given(data=st.data())
    def test_a_body_survives_the_round_trip(self, name: str, data: st.DataObject) -> None:
        value = data.draw(EXTENSIONS[name])
        encoded = encode(name, value)
        assert getattr(extensions, f"decode_{name}")(encoded) == value

    @pytest.mark.parametrize("name", EXTENSIONS)
    @given(data=st.data())
    def test_a_body_that_is_cut_or_too_long_is_a_wire_error(self, name: str, data: st.DataObject) -> None:
        encoded = encode(name, data.draw(EXTENSIONS[name]))
        decode = getattr(extensions, f"decode_{name}")
        with pytest.raises(WireError):
            decode(encoded + b"\x00")
        with pytest.raises(WireError):
            decode(encoded[: data.draw(st.integers(0, len(encoded) - 1))])

    @pytest.mark.parametrize("name", [*EXTENSIONS, "key_shares", "extensions"])
    @given(body=st.binary(max_size=60))
    def test_any_body_decodes_or_is_a_typed_error(self, name: str, body: bytes) -> None:
        with contextlib.suppress(WireError, TlsAlert):
            getattr(extensions, f"decode_{name}")(body)

    @given(st.dictionaries(u16, filled, max_size=5))
    def test_key_shares_survive_the_round_trip(self, shares: dict[int, bytes]) -> None:
        assert extensions.decode_key_shares(extensions.encode_key_shares(shares.items())) == shares

    def test_two_key_shares_of_one_group_are_refused(self) -> None:
        with pytest.raises(TlsAlert) as raised:
            extensions.decode_key_shares(extensions.encode_key_shares([(29, b"a"), (29, b"b")]))
        assert raised.value.alert is AlertDescription.ILLEGAL_PARAMETER

    def test_an_extension_that_comes_twice_is_refused(self) -> None:
        block = extensions.encode_extensions({7: b"x"})[2:]
        with pytest.raises(TlsAlert) as raised:
            extensions.decode_extensions(block * 2)
        assert raised.value.alert is AlertDescription.ILLEGAL_PARAMETER
        assert raised.value.section == "RFC 8446 section 4.2"

    def test_too_many_extensions_are_refused(self) -> None:
        block = extensions.encode_extensions(dict.fromkeys(range(limits.MAX_EXTENSIONS + 1), b""))[2:]
        with pytest.raises(TlsAlert) as raised:
            extensions.decode_extensions(block)
        assert raised.value.alert is AlertDescription.DECODE_ERROR

    @pytest.mark.parametrize(
        "extension", [{-1: b""}, {1 << 16: b""}, {1: bytes(1 << 16)}, {1: bytes(40_000), 2: bytes(40_000)}]
    )
    def test_what_does_not_fit_is_a_wire_error(self, extension: dict[int, bytes]) -> None:
        with pytest.raises(WireError):
            extensions.encode_extensions(extension)

    @pytest.mark.parametrize("name", [b"caf\xc3\xa9", b"a\x00b", b"a" * 256])
    def test_a_name_that_is_no_host_name_is_refused(self, name: bytes) -> None:
        inner = b"\x00" + len(name).to_bytes(2, "big") + name
        with pytest.raises(TlsAlert) as raised:
            extensions.decode_server_name(len(inner).to_bytes(2, "big") + inner)
        assert raised.value.section == "RFC 6066 section 3"

    def test_a_server_name_is_read_in_lower_case(self) -> None:
        assert extensions.decode_server_name(extensions.encode_server_name("WWW.Example.ORG")) == "www.example.org"
