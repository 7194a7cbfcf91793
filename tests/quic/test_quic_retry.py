"""Retry and address tokens (RFC 9000 section 8.1): who has to prove an address, and what proves it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from quic_pair import CLIENT_ADDRESS, Pair, SimulatedPath

from fairway.quic import KnownServer, MemorySessionStore
from fairway.quic import events as ev
from fairway.quic.packets.headers import LONG_HEADER, PacketType, parse_long_header
from fairway.tls import SealingKeys

SERVER = ("localhost", 443, ("test",))


class Watch:
    """Notes the types of the long header packets that begin the datagrams of both directions."""

    def __init__(self, pair: Pair) -> None:
        self.there: list[PacketType | None] = []
        self.back: list[PacketType | None] = []
        pair.there.drop = lambda _, data: self._note(self.there, data)
        pair.back.drop = lambda _, data: self._note(self.back, data)

    def _note(self, kinds: list[PacketType | None], data: bytes) -> bool:
        if data[0] & LONG_HEADER:
            kinds.append(parse_long_header(data, 0, len(data)).type)
        return False


def exchange(pair: Pair, data: bytes = b"there and back") -> None:
    assert pair.client.core is not None
    stream = pair.client.core.open_stream()
    assert stream is not None
    pair.client.core.write(stream, data, end=True)
    pair.run(lambda: stream in pair.server.ended)
    assert pair.server.received[stream] == data


def first_visit(store: MemorySessionStore, **options: object) -> Pair:
    pair = Pair(server=KnownServer(store, SERVER), **options)  # type: ignore[arg-type]
    pair.run_for(1.0)
    return pair


def again(store: MemorySessionStore, before: Pair, *, later: float = 1.0, **options: object) -> tuple[Pair, Watch]:
    """Another visit to the same endpoint."""
    pair = Pair(
        server=KnownServer(store, SERVER),
        endpoint=before.endpoint,
        now=before.now + later,
        seed=int(before.now + later) % 1009,
        connect=False,
        **options,  # type: ignore[arg-type]
    )
    before.now += later  # its clock is the endpoint's
    return pair, Watch(pair)


class TestAlways:
    def test_a_newcomer_follows_the_retry_and_is_served(self) -> None:
        pair = Pair(retry=True, connect=False)
        watch = Watch(pair)
        pair.run(lambda: pair.connected)
        assert watch.back[0] is PacketType.RETRY
        assert watch.back.count(PacketType.RETRY) == 1
        assert len(pair.endpoint) == 1
        exchange(pair)

    @pytest.mark.parametrize("seed", range(6))
    def test_also_when_datagrams_are_lost_duplicated_and_late(self, seed: int) -> None:
        path = SimulatedPath(loss=0.15, duplication=0.1, jitter=0.02)
        pair = Pair(retry=True, there=path, back=replace(path), seed=seed)
        exchange(pair, bytes(50_000))
        assert len(pair.endpoint) == 1

    def test_nothing_is_kept_before_the_address_is_proved(self) -> None:
        pair = Pair(retry=True, connect=False)
        pair.settle()
        pair.step()
        assert pair.there.count > 0
        assert len(pair.endpoint) == 0

    def test_a_proved_address_is_sent_to_without_a_limit(self) -> None:
        pair = Pair(retry=True, connect=False)
        pair.run(lambda: pair.server.core is not None)
        assert pair.server.core is not None
        assert pair.server.core.path.validated

    def test_a_client_sees_through_a_server_that_hides_its_retry(self) -> None:
        pair = Pair(retry=True, connect=False)
        pair.run(lambda: pair.server.core is not None)
        assert pair.client.core is not None
        pair.run(lambda: pair.connected)
        parameters = pair.client.core.peer_parameters
        assert parameters.retry_source_connection_id is not None
        assert parameters.original_destination_connection_id != parameters.retry_source_connection_id


class TestNextVisit:
    def test_a_returning_client_proves_its_address_at_once(self) -> None:
        store = MemorySessionStore()
        pair, watch = again(store, first_visit(store, retry=True))
        pair.run(lambda: pair.connected)
        assert PacketType.RETRY not in watch.back
        exchange(pair)

    def test_without_load_a_token_lifts_the_limit_too(self) -> None:
        store = MemorySessionStore()
        pair, _ = again(store, first_visit(store))
        pair.run(lambda: pair.server.core is not None)
        assert pair.server.core is not None
        assert pair.server.core.path.validated

    def test_from_another_port_it_still_counts_from_another_address_not(self) -> None:
        store = MemorySessionStore()
        first = first_visit(store, retry=True)
        pair, watch = again(store, first)
        pair.links[None].address = (CLIENT_ADDRESS[0], 4999)
        pair.run(lambda: pair.connected)
        assert PacketType.RETRY not in watch.back
        pair.run_for(1.0)  # it has got another token
        pair, watch = again(store, first, later=3.0)
        pair.links[None].address = ("198.51.100.7", CLIENT_ADDRESS[1])
        pair.run(lambda: pair.connected)
        assert watch.back[0] is PacketType.RETRY

    def test_a_token_counts_for_a_day(self) -> None:
        for later, retried in ((80_000.0, False), (90_000.0, True)):
            store = MemorySessionStore()
            pair, watch = again(store, first_visit(store, retry=True), later=later)
            pair.run(lambda: pair.connected)  # noqa: B023 - run at once
            assert (PacketType.RETRY in watch.back) is retried

    def test_a_client_uses_a_token_once(self) -> None:
        store = MemorySessionStore()
        first_visit(store)
        assert store.take_token(SERVER)
        assert store.take_token(SERVER) is None

    def test_another_process_with_the_same_keys_takes_it(self) -> None:
        keys = b"k" * 32
        store = MemorySessionStore()
        first_visit(store, retry=True, token_keys=SealingKeys([keys]))
        pair = Pair(
            server=KnownServer(store, SERVER),
            seed=3,
            connect=False,
            retry=True,
            token_keys=SealingKeys([b"n" * 32, keys]),
        )
        watch = Watch(pair)
        pair.run(lambda: pair.connected)
        assert PacketType.RETRY not in watch.back

    def test_the_application_hears_of_the_token(self) -> None:
        pair = Pair()
        pair.run_for(1.0)
        assert len(pair.client.of(ev.TokenReceived)) == 1


class TestStore:
    def test_a_store_has_bounds(self) -> None:
        store = MemorySessionStore(most=3)
        for port in range(10):
            for index in range(10):
                store.save_token(("localhost", port, ()), bytes((index,)))
        assert len(store) == 3
        assert store.take_token(("localhost", 0, ())) is None
        assert [store.take_token(("localhost", 9, ())) for _ in range(5)] == [b"\x09", b"\x08", b"\x07", b"\x06", None]

    def test_servers_and_their_sessions_without_number_are_not_all_kept(self) -> None:
        store = MemorySessionStore()
        sessions: list[Any] = list(range(10))  # it does not look into them
        for port in range(1_000):
            for session in sessions:
                store.save_session(("localhost", port, ()), session)
        assert len(store) == 256
        assert [store.take_session(("localhost", 999, ())) for _ in range(5)] == [9, 8, 7, 6, None]


class TestSealing:
    def test_keys_of_its_own_making_are_replaced_and_old_ones_open_for_a_week(self) -> None:
        keys = SealingKeys()
        count = iter(range(1 << 20))
        random = lambda length: next(count).to_bytes(length, "big")  # noqa: E731
        day = 86_400.0
        boxes = [keys.seal(b"content", b"", random=random, now_s=1e9 + n * day) for n in range(10)]
        assert len({box[:4] for box in boxes}) == 10
        assert [keys.open(box, b"") for box in boxes] == [None] * 2 + [b"content"] * 8

    def test_keys_must_be_keys(self) -> None:
        with pytest.raises(ValueError, match="32 bytes"):
            SealingKeys([b"short"])
