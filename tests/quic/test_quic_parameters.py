"""Transport parameters: what peers of one kind all say first is decoded once, and changes nothing."""

from __future__ import annotations

import itertools

import pytest

from fairway.quic.errors import PeerError
from fairway.quic.transport_parameters import (
    MAX_BEGINNINGS_KEPT,
    TransportParameters,
    _beginnings,
    decode_parameters,
    encode_ids,
    encode_parameters,
    encode_reserved,
)

SHARED = TransportParameters(
    max_idle_timeout_ms=30_000, initial_max_data=1 << 20, max_ack_delay_ms=5, grease_quic_bit=True, min_ack_delay_us=1
)


@pytest.fixture(autouse=True)
def nothing_known() -> None:
    _beginnings.__init__()  # type: ignore[misc]


def test_a_known_beginning_says_the_same_of_the_next_connection() -> None:
    for number in range(3):
        source = bytes([number]) * 8
        data = encode_parameters(SHARED) + encode_ids(source) + encode_reserved(bytes([number] * 6))
        assert decode_parameters(data, from_client=True) == SHARED._replace(initial_source_connection_id=source)
    assert _beginnings.find(encode_parameters(SHARED))[0] == len(encode_parameters(SHARED))


def test_each_order_and_every_cut_is_decoded_as_if_nothing_were_known() -> None:
    parts = [encode_parameters(TransportParameters(initial_max_data=n)) for n in (1, 70, 70_000)]
    parts[1] = encode_parameters(TransportParameters(max_idle_timeout_ms=70))
    parts[2] = encode_ids(b"source")
    orders = [b"".join(order) for order in itertools.permutations(parts)]
    expected = TransportParameters(initial_max_data=1, max_idle_timeout_ms=70, initial_source_connection_id=b"source")
    for data in orders * 2:
        assert decode_parameters(data, from_client=True) == expected
    for data in orders:
        for cut in range(1, len(data)):
            _beginnings.__init__()  # type: ignore[misc]
            fresh = outcome(data[:cut])
            for other in orders:
                decode_parameters(other, from_client=True)
            assert outcome(data[:cut]) == fresh


def test_what_is_known_may_not_be_given_twice_nor_pass_its_limits() -> None:
    beginning, ids = encode_parameters(SHARED), encode_ids(b"12345678")
    decode_parameters(beginning + ids, from_client=True)
    for wrong in (beginning + ids + beginning, beginning + encode_parameters(SHARED)[:6] + ids):
        with pytest.raises(PeerError, match="given twice"):
            decode_parameters(wrong, from_client=True)
    late = encode_parameters(TransportParameters(min_ack_delay_us=26_000))
    decode_parameters(encode_parameters(TransportParameters(max_ack_delay_ms=30)) + ids + late, from_client=True)
    with pytest.raises(PeerError, match="min_ack_delay"):
        decode_parameters(encode_parameters(TransportParameters(initial_max_data=1)) + ids + late, from_client=True)
    server_only = beginning + encode_ids(b"12345678", original_destination=b"87654321")
    decode_parameters(server_only, from_client=False)
    with pytest.raises(PeerError, match="a client may not send"):
        decode_parameters(server_only, from_client=True)


def test_few_beginnings_are_kept() -> None:
    for number in range(10 * MAX_BEGINNINGS_KEPT):
        parameters = SHARED._replace(initial_max_data=1 << (number % 50), max_idle_timeout_ms=number)
        decode_parameters(encode_parameters(parameters) + encode_ids(b"12345678"), from_client=True)
        assert len(_beginnings._decoded) <= MAX_BEGINNINGS_KEPT
        assert len(_beginnings._lengths) <= MAX_BEGINNINGS_KEPT


def outcome(data: bytes) -> TransportParameters | str:
    try:
        return decode_parameters(data, from_client=True)
    except PeerError as error:
        return str(error.reason)
