"""How what nodes say to each other is encoded: it round-trips, it is bounded, anything else is a peer's fault."""

from __future__ import annotations

import contextlib
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairway.net.exchange import limits
from fairway.net.exchange.errors import PeerFault
from fairway.net.exchange.framing import Framer
from fairway.net.exchange.messages import (
    TYPES,
    Announce,
    Announcement,
    Channel,
    Endpoint,
    Endpoints,
    Held,
    Hello,
    Member,
    Members,
    Message,
    Resume,
    ResyncRequest,
    Revocations,
    TableBegin,
    TableEnd,
    TableEntries,
    Withdraw,
    encode,
)

numbers = st.integers(0, 2**40)
names = st.from_regex(r"\A[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?\Z")
addresses = st.one_of(st.integers(0, 2**32 - 1).map(IPv4Address), st.integers(0, 2**128 - 1).map(IPv6Address))
prefixes = st.one_of(
    st.builds(lambda a, n: IPv4Network((a >> (32 - n) << (32 - n), n)), st.integers(0, 2**32 - 1), st.integers(0, 32)),
    st.builds(
        lambda a, n: IPv6Network((a >> (128 - n) << (128 - n), n)), st.integers(0, 2**128 - 1), st.integers(0, 128)
    ),
)
endpoints = st.lists(st.builds(Endpoint, addresses, st.integers(0, 65535)), max_size=limits.MAX_ENDPOINTS).map(tuple)
announcements = st.lists(st.builds(Announcement, prefixes, numbers, numbers, numbers), max_size=20).map(tuple)
spans = st.tuples(numbers, numbers).map(sorted)

messages: st.SearchStrategy[Message] = st.one_of(
    st.builds(
        Hello,
        st.binary(min_size=16, max_size=16),
        names,
        numbers,
        endpoints,
        st.none() | st.builds(Held, numbers, numbers),
        capabilities=numbers,
        members=numbers,
    ),
    st.builds(Resume, numbers, numbers),
    st.just(ResyncRequest()),
    st.builds(Endpoints, endpoints),
    st.builds(lambda e, s, a: Announce(e, s[0], s[1], a), numbers, spans, announcements),
    st.builds(
        lambda e, s, p: Withdraw(e, s[0], s[1], tuple(p)),
        numbers,
        spans,
        st.lists(st.tuples(prefixes, numbers), max_size=20),
    ),
    st.builds(TableBegin, numbers, numbers),
    st.builds(TableEntries, announcements),
    st.just(TableEnd()),
    st.builds(Members, st.lists(st.builds(Member, names, endpoints), max_size=10).map(tuple)),
    st.builds(Revocations, numbers, st.binary(max_size=200)),
)


def _stream(message: Message) -> bytes:
    return bytes((TYPES[type(message)][1],)) + encode(message)


@given(messages)
def test_every_message_round_trips(message: Message) -> None:
    assert Framer().feed(_stream(message)) == [message]


@given(st.lists(messages, min_size=1, max_size=5), st.integers(1, 50))
def test_messages_may_be_cut_anywhere(chosen: list[Message], size: int) -> None:
    channel = TYPES[type(chosen[0])][1]
    of_channel = [message for message in chosen if TYPES[type(message)][1] is channel]
    data = bytes((channel,)) + b"".join(map(encode, of_channel))
    framer = Framer()
    found = [message for at in range(0, len(data), size) for message in framer.feed(data[at : at + size])]
    assert found == of_channel


@given(st.binary(max_size=300))
def test_any_bytes_are_messages_or_a_peers_fault(data: bytes) -> None:
    for channel in Channel:
        framer = Framer()
        try:
            framer.feed(bytes((channel,)) + data)
        except PeerFault:
            continue


@given(messages, st.data())
def test_a_damaged_message_is_a_message_or_a_peers_fault(message: Message, data: st.DataObject) -> None:
    stream = bytearray(_stream(message))
    at = data.draw(st.integers(1, len(stream) - 1))
    stream[at] ^= data.draw(st.integers(1, 255))
    with contextlib.suppress(PeerFault):
        Framer().feed(bytes(stream))


def test_a_message_that_is_too_long_is_refused_before_it_is_there() -> None:
    with pytest.raises(PeerFault, match="at most 16384"):
        Framer().feed(b"\x02\x10\x80\x01\x00\x00")


def test_a_message_of_an_unknown_type_is_skipped_and_counted() -> None:
    framer = Framer()
    assert framer.feed(b"\x00\x7f\x03abc" + encode(Resume(1, 2))) == [Resume(1, 2)]
    assert framer.unknown == 1


def test_a_message_on_the_stream_of_another_kind_is_refused() -> None:
    with pytest.raises(PeerFault, match="does not belong on the stream for withdrawals"):
        Framer().feed(bytes((Channel.WITHDRAWALS,)) + encode(Announce(1, 0, 0)))


def test_a_stream_of_an_unknown_kind_is_refused() -> None:
    with pytest.raises(PeerFault, match="unknown kind 0x63"):
        Framer().feed(b"\x63")


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"\x05\x20" + bytes(4), "IP version 5"),
        (b"\x04\x21" + bytes(5), "length 33"),
        (b"\x04\x18" + bytes(2), "does not decode"),
        (b"\x04\x17\x0a\x00\x01\x01\x00\x00", "bits beyond its length"),
    ],
)
def test_a_prefix_that_is_none_is_refused(body: bytes, reason: str) -> None:
    entries = bytes((Channel.TABLE, 0x21, len(body))) + body
    with pytest.raises(PeerFault, match=reason):
        Framer().feed(entries)


def test_a_node_of_another_version_of_the_protocol_is_told_so() -> None:
    with pytest.raises(PeerFault, match="speaks version 9 of the protocol, and this node 1"):
        Framer().feed(_stream(Hello(bytes(16), "n1", 1, protocol=9)))


def test_a_hello_may_have_more_at_its_end_than_this_version_knows() -> None:
    hello = Hello(bytes(16), "n1", 1)
    body = hello.encode() + b"more"
    assert Framer().feed(bytes((Channel.CONTROL, 0x01, len(body))) + body) == [hello]


def test_a_change_of_one_route_is_small() -> None:
    change = Announce(10**12, 400, 401, (Announcement(ip_network("10.0.1.2/32"), 401),))
    assert len(encode(change)) <= 24
