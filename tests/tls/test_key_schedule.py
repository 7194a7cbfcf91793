import hmac
import json
from pathlib import Path

import pytest

from fairway.tls import CipherSuite, derive_keys, hkdf_expand_label, next_secret
from fairway.tls.key_exchange import EllipticCurveExchange, NamedGroup, X25519Exchange
from fairway.tls.key_schedule import KeySchedule, Transcript, finished_mac

VECTORS = Path(__file__).parent / "vectors"
SUITE = CipherSuite.AES_128_GCM_SHA256


def trace(name: str) -> dict[str, bytes]:
    loaded = json.loads((VECTORS / "rfc8448.json").read_text())[name]
    return {key: bytes.fromhex(value) for key, value in loaded.items()}


def follow(values: dict[str, bytes], transcript: Transcript, shared_secret: bytes) -> tuple[KeySchedule, bytes]:
    """Compute every secret of a trace from ServerHello on and compare it; the transcript holds all before."""
    schedule = KeySchedule(SUITE)
    transcript.add(values["server_hello"])
    assert transcript.digest() == values["hash_to_server_hello"]
    client, server = schedule.enter_handshake(shared_secret, transcript.digest())
    assert schedule.secret == values["handshake_secret"]
    assert client == values["client_handshake_traffic_secret"]
    assert server == values["server_handshake_traffic_secret"]
    for message in ("encrypted_extensions", "certificate", "certificate_verify"):
        transcript.add(values[message])
    assert finished_mac("sha256", server, transcript.digest()) == values["server_finished"][4:]
    transcript.add(values["server_finished"])
    assert schedule.enter_application(transcript.digest()) == (
        values["client_application_traffic_secret"],
        values["server_application_traffic_secret"],
    )
    assert schedule.secret == values["master_secret"]
    assert schedule.derive("exp master", transcript.digest()) == values["exporter_master_secret"]
    return schedule, client


def test_rfc_8448_section_3_the_simple_handshake_gives_its_secrets() -> None:
    values = trace("simple_1rtt")
    client_half = X25519Exchange(lambda _: values["client_private_key"])
    server_half = X25519Exchange(lambda _: values["server_private_key"])
    assert client_half.share in values["client_hello"]
    assert server_half.share in values["server_hello"]
    assert client_half.finish(server_half.share) == values["shared_secret"]
    assert server_half.finish(client_half.share) == values["shared_secret"]
    assert KeySchedule(SUITE).secret == values["early_secret"]

    transcript = Transcript()
    transcript.add(values["client_hello"])
    transcript.choose_hash("sha256")
    schedule, client = follow(values, transcript, values["shared_secret"])
    assert finished_mac("sha256", client, transcript.digest()) == values["client_finished"][4:]
    transcript.add(values["client_finished"])
    resumption = schedule.derive("res master", transcript.digest())
    assert resumption == values["resumption_master_secret"]
    psk = hkdf_expand_label("sha256", resumption, "resumption", values["ticket_nonce"], 32)
    assert psk == values["resumption_psk"]


def test_rfc_8448_section_4_a_schedule_begins_with_the_pre_shared_key() -> None:
    psk = trace("simple_1rtt")["resumption_psk"]
    early = "9b2188e9b2fc6d64d71dc329900e20bb41915000f678aa839cbb797cb7d8332c"
    assert KeySchedule(SUITE, psk).secret == bytes.fromhex(early)


def test_rfc_8448_section_5_a_retry_replaces_the_first_client_hello_by_its_hash() -> None:
    values = trace("hello_retry_request")
    transcript = Transcript()
    transcript.add(values["client_hello"])
    transcript.replace_with_hash("sha256")
    transcript.add(values["hello_retry_request"])
    transcript.add(values["second_client_hello"])
    follow(values, transcript, values["shared_secret"])


def test_rfc_8448_section_5_p_256_gives_the_shared_secret() -> None:
    values = trace("hello_retry_request")

    def random_for(private_key: bytes) -> bytes:
        return (int.from_bytes(private_key, "big") - 1).to_bytes(40, "big")

    client_half = EllipticCurveExchange(NamedGroup.SECP256R1, lambda _: random_for(values["client_private_key"]))
    server_half = EllipticCurveExchange(NamedGroup.SECP256R1, lambda _: random_for(values["server_private_key"]))
    assert client_half.share == values["client_public_key"]
    assert server_half.share == values["server_public_key"]
    assert client_half.finish(server_half.share) == values["shared_secret"]
    assert server_half.finish(client_half.share) == values["shared_secret"]


def test_rfc_9001_appendix_a_1_the_initial_secrets() -> None:
    vectors = json.loads((VECTORS / "rfc9001.json").read_text())
    initial = {key: bytes.fromhex(value) for key, value in vectors["initial"].items()}
    secret = hmac.digest(initial["salt"], initial["destination_connection_id"], "sha256")
    assert secret == initial["secret"]
    for label, side in (("client in", "client_initial"), ("server in", "server_initial")):
        expected = bytes.fromhex(vectors["keys"][side]["secret"])
        assert hkdf_expand_label("sha256", secret, label, b"", 32) == expected


@pytest.mark.parametrize("name", ["client_initial", "server_initial", "chacha20"])
def test_rfc_9001_appendix_a_the_packet_keys_of_a_secret(name: str) -> None:
    vector = json.loads((VECTORS / "rfc9001.json").read_text())["keys"][name]
    suite = CipherSuite[vector["cipher_suite"]]
    secret = bytes.fromhex(vector["secret"])
    assert derive_keys(suite, secret) == tuple(bytes.fromhex(vector[key]) for key in ("key", "iv", "hp"))
    if "next_secret" in vector:
        assert next_secret(suite, secret) == bytes.fromhex(vector["next_secret"])


@pytest.mark.parametrize("suite", list(CipherSuite))
def test_lengths_fit_the_suite(suite: CipherSuite) -> None:
    secret = bytes(suite.hash_length)
    key, iv, hp = derive_keys(suite, secret)
    assert (len(key), len(iv), len(hp)) == (suite.key_length, suite.iv_length, suite.key_length)
    assert len(next_secret(suite, secret)) == suite.hash_length


def test_an_output_longer_than_the_hash_takes_further_blocks() -> None:
    long = hkdf_expand_label("sha256", bytes(32), "label", b"context", 80)
    info = (80).to_bytes(2, "big") + b"\x0btls13 label" + b"\x07context"
    block, expected = b"", b""
    for counter in (1, 2, 3):
        block = hmac.digest(bytes(32), block + info + bytes((counter,)), "sha256")
        expected += block
    assert long == expected[:80]
