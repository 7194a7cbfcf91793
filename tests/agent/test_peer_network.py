"""Hosts that tell each other their routes over real connections on loopback."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import time
from datetime import datetime, timedelta
from ipaddress import ip_address, ip_network
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from peer_hosts import PORT, PeerHost, everybody_knows_everybody, now, running, until

from fairway.aio import ConnectionClosed, StreamReset, connect
from fairway.net.agent.peers import joining, security
from fairway.net.agent.peers.connections import Connections
from fairway.net.agent.peers.joining import join
from fairway.net.agent.peers.options import PeerOptions
from fairway.net.enrolment import Authority, Block, Granted, JoinRequest, Membership
from fairway.net.exchange import Channel, CloseCode, Endpoint, limits
from fairway.net.exchange.messages import Hello, Member, Withdraw, encode
from fairway.net.model.errors import FairwayError, UsageError
from fairway.tls import ClientConfig, self_signed_identity

POD = ip_network("10.0.200.1/32")


class TestRoutes:
    def test_hosts_that_know_only_the_first_come_to_know_each_other(self, tmp_path: Path) -> None:
        async def play() -> None:
            async with running(tmp_path, 4) as hosts:
                await until(lambda: everybody_knows_everybody(hosts))
                statuses = hosts[3].network.peer_status() if hosts[3].network else []
                assert [(peer.node, peer.state) for peer in statuses] == [(f"node{n}", "up") for n in (1, 2, 3)]
                assert all(peer.rtt_ms is not None and peer.bytes_received for peer in statuses)

        asyncio.run(play())

    def test_a_change_is_told_at_once(self, tmp_path: Path) -> None:
        async def play() -> None:
            async with running(tmp_path, 3) as hosts:
                await until(lambda: everybody_knows_everybody(hosts))
                assert hosts[0].network is not None
                hosts[0].network.announce({hosts[0].block: 0, POD: 3})
                await until(lambda: all(str(POD) in host.routes() for host in hosts[1:]))
                hosts[0].network.announce({hosts[0].block: 0})
                await until(lambda: not any(str(POD) in host.routes() for host in hosts[1:]))

        asyncio.run(play())

    def test_an_agent_that_stops_in_order_is_waited_for_and_resumed(self, tmp_path: Path) -> None:
        async def play() -> None:
            async with running(tmp_path, 2) as hosts:
                await until(lambda: everybody_knows_everybody(hosts))
                await hosts[1].stop()
                network = hosts[0].network
                assert network is not None
                await until(lambda: network.peer_status()[0].state == "restarting")
                assert hosts[0].routes()
                assert network.routes()[0].stale
                await hosts[1].start()
                await until(lambda: everybody_knows_everybody(hosts) and not network.routes()[0].stale)

        asyncio.run(play())

    def test_who_leaves_takes_its_routes_along(self, tmp_path: Path) -> None:
        async def play() -> None:
            async with running(tmp_path, 2) as hosts:
                await until(lambda: everybody_knows_everybody(hosts))
                await hosts[1].stop(leaving=True)
                await until(lambda: not hosts[0].routes())

        asyncio.run(play())

    def test_a_host_that_does_not_come_back_in_time_loses_its_routes(self, tmp_path: Path) -> None:
        async def play() -> None:
            async with running(tmp_path, 2, restart_s=0.5) as hosts:
                await until(lambda: everybody_knows_everybody(hosts))
                await hosts[1].stop()
                await asyncio.sleep(0.2)
                assert hosts[0].routes()
                await until(lambda: not hosts[0].routes())

        asyncio.run(play())

    def test_whom_a_host_knew_it_calls_after_a_restart(self, tmp_path: Path) -> None:
        async def play() -> None:
            async with running(tmp_path, 3) as hosts:
                await until(lambda: everybody_knows_everybody(hosts))
                await until(lambda: len(hosts[2].membership.peers()) == 2)
                for host in hosts:
                    await host.stop()
                await hosts[1].start()
                await hosts[2].start()  # the first, whom the network's description names, is away
                await until(lambda: str(hosts[1].block) in hosts[2].routes())

        asyncio.run(play())


class TestMembersThatAreNotThere:
    def test_wait_each_for_one_call_and_no_more_of_them(self, tmp_path: Path) -> None:
        async def play() -> None:
            async with running(tmp_path, 1) as hosts:
                network = hosts[0].network
                assert network is not None
                directory = network.exchange.directory
                before = len(asyncio.all_tasks())
                with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:  # who calls there waits for an answer
                    silent.bind(("0.0.0.0", 0))
                    port = silent.getsockname()[1]
                    nobody = [Member(f"x{n}", (Endpoint(ip_address(f"127.0.9.{n}"), port),)) for n in range(100)]
                    directory.told(nobody, asyncio.get_running_loop().time())
                    network.announce({hosts[0].block: 0, POD: 1})  # something happens, and who is due is called
                    await until(lambda: directory.known["x99"].attempts >= 4)
                    assert len(asyncio.all_tasks()) - before <= 2 * len(nobody)

        asyncio.run(play())


class TestWhoAsksToJoin:
    @pytest.mark.parametrize("what", ["reset", "garbage", "much", "deep", "nothing"])
    def test_and_says_nonsense_harms_nobody(self, tmp_path: Path, what: str, caplog: pytest.LogCaptureFixture) -> None:
        async def play() -> None:
            async with running(tmp_path, 2) as hosts:
                await until(lambda: everybody_knows_everybody(hosts))
                tls = ClientConfig(None, (security.JOIN,), verify=False)
                for _ in range(1 if what == "much" else 20):
                    async with connect(str(hosts[0].address), PORT, alpn=security.JOIN, tls=tls) as connection:
                        stream = await connection.open_stream()
                        if what == "reset":
                            await stream.send(b"{")
                            stream.reset(1)
                        elif what == "deep":
                            await stream.send(b"[" * 60_000, end=True)
                        elif what == "much":
                            with contextlib.suppress(ConnectionClosed, StreamReset):
                                await stream.send(b" " * 500_000, end=True)
                        elif what == "garbage":
                            await stream.send(b'{"kind": "granted", "certificate": 5}', end=True)
                        await asyncio.sleep(0.01)
                token = hosts[0].authority.token(now())
                await join(Membership(tmp_path / "new"), (str(hosts[0].address), PORT), token, "new")
                assert everybody_knows_everybody(hosts)

        asyncio.run(play())
        assert [record for record in caplog.records if record.exc_info] == []


class TestJoining:
    def test_a_host_joins_by_a_token_over_the_network(self, tmp_path: Path) -> None:
        async def play() -> None:
            async with running(tmp_path, 1) as hosts:
                token = hosts[0].authority.token(now())
                membership = Membership(tmp_path / "new")
                credentials = await join(membership, (str(hosts[0].address), PORT), token, "new")
                assert credentials.permit.blocks == (ip_network("10.0.1.0/24"),)
                with pytest.raises(UsageError, match="belongs to a network already"):
                    await join(membership, (str(hosts[0].address), PORT), token, "new")
                with pytest.raises(UsageError, match="has been used"):
                    await join(Membership(tmp_path / "other"), (str(hosts[0].address), PORT), token, "other")

        asyncio.run(play())

    def test_another_host_says_where_the_authority_is(self, tmp_path: Path) -> None:
        async def play() -> None:
            async with running(tmp_path, 2) as hosts:
                await until(lambda: everybody_knows_everybody(hosts))
                token = hosts[0].authority.token(now())
                credentials = await join(Membership(tmp_path / "new"), (str(hosts[1].address), PORT), token, "new")
                assert credentials.permit.node == "new"

        asyncio.run(play())

    def test_the_token_is_not_shown_to_who_is_not_of_the_network(self, tmp_path: Path) -> None:
        async def play() -> None:
            other = PeerHost(tmp_path / "foreign", 9)
            async with running(tmp_path, 1) as hosts:
                await other.start()
                token = hosts[0].authority.token(now())
                with pytest.raises(FairwayError, match="not of the network that the token is for"):
                    await join(Membership(tmp_path / "new"), (str(other.address), PORT), token, "new")
                await other.stop()

        asyncio.run(play())

    def test_a_member_cannot_put_itself_in_the_authoritys_place(self, tmp_path: Path) -> None:
        class Rogue(Authority):
            def admit(self, asked: JoinRequest, now: datetime) -> Granted:
                return self.enrol(asked.node, asked.request, now)

        async def play() -> None:
            first = PeerHost(tmp_path, 1)
            member = PeerHost(tmp_path, 2, first)
            member.authority = Rogue(member.state)
            member.authority.create(member.name, [Block(ip_network("10.0.0.0/16"))], now(), PORT)
            await member.start()
            try:
                token, new = first.authority.token(now()), Membership(tmp_path / "new")
                with pytest.raises(FairwayError, match="another authority than the token's"):
                    await join(new, (str(member.address), PORT), token, "new")
                assert not new.joined
            finally:
                await member.stop()
                first.authority.close()

        asyncio.run(play())

    def test_a_host_that_is_slow_to_answer_has_all_of_the_time(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def play() -> None:
            first = PeerHost(tmp_path, 1)
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
                silent.bind(("127.0.0.1", 0))
                with pytest.raises(FairwayError, match="no answer in time"):  # not: closed by the idle timeout
                    await join(Membership(tmp_path / "new"), silent.getsockname(), first.authority.token(now()), "new")
            first.authority.close()

        monkeypatch.setattr(joining, "_TIMEOUT_S", 4.0)
        asyncio.run(play())

    def test_where_nobody_answers_it_says_so(self, tmp_path: Path) -> None:
        async def play() -> None:
            first = PeerHost(tmp_path, 1)
            token = first.authority.token(now())
            with pytest.raises(FairwayError, match=r"127\.0\.1\.77 does not answer on UDP port 7946"):
                await join(Membership(tmp_path / "new"), ("127.0.1.77", PORT), token, "new")

        asyncio.run(play())

    def test_a_certificate_is_renewed_by_itself_when_two_thirds_are_over(self, tmp_path: Path) -> None:
        async def play() -> None:
            first = PeerHost(tmp_path, 1)
            second = PeerHost(tmp_path, 2, first, ago=timedelta(days=25))
            serial = second.membership.credentials().permit.serial
            await first.start()
            await second.start()
            await until(lambda: second.membership.credentials().permit.serial != serial)
            await until(lambda: everybody_knows_everybody([first, second]))
            await first.stop()
            await second.stop()

        asyncio.run(play())


class TestStrangers:
    def test_who_shows_no_certificate_is_refused(self, tmp_path: Path) -> None:
        async def play() -> None:
            async with running(tmp_path, 1) as hosts:
                tls = ClientConfig(None, (security.ROUTES,), verify=False)
                async with connect(str(hosts[0].address), PORT, alpn=security.ROUTES, tls=tls) as connection:
                    closing = await connection.wait_closed()
                assert closing.code == CloseCode.REFUSED

        asyncio.run(play())

    def test_a_certificate_of_another_authority_is_refused(self, tmp_path: Path) -> None:
        async def play() -> None:
            foreign = PeerHost(tmp_path / "foreign", 9)
            async with running(tmp_path, 1) as hosts:
                for identity in (
                    security.identity(foreign.membership.credentials()),
                    self_signed_identity(["node.fairway.internal"]),
                ):
                    tls = ClientConfig(None, (security.ROUTES,), verify=False, identity=identity)
                    with pytest.raises(ConnectionClosed):
                        async with connect(str(hosts[0].address), PORT, alpn=security.ROUTES, tls=tls) as connection:
                            raise ConnectionClosed(await connection.wait_closed())
                assert hosts[0].network is not None
                assert hosts[0].network.peer_status() == []

        asyncio.run(play())

    def test_a_node_whose_certificate_has_expired_is_refused(self, tmp_path: Path) -> None:
        async def play() -> None:
            first = PeerHost(tmp_path, 1)
            late = PeerHost(tmp_path, 2, first, ago=timedelta(days=31))
            await first.start()
            await late.start()
            await asyncio.sleep(1.0)
            assert not first.routes()
            assert not late.routes()
            await first.stop()
            await late.stop()

        asyncio.run(play())

    def test_a_node_that_is_revoked_is_cut_off_everywhere_and_stays_out(self, tmp_path: Path) -> None:
        async def play() -> None:
            async with running(tmp_path, 3) as hosts:
                await until(lambda: everybody_knows_everybody(hosts))
                assert hosts[0].network is not None
                block = str(hosts[2].block)
                hosts[0].network.revoked(hosts[0].authority.revoke("node3", now()))
                await until(lambda: not any(block in host.routes() for host in hosts[:2]))
                await asyncio.sleep(1.0)
                assert not any(block in host.routes() for host in hosts[:2])
                await hosts[1].stop()
                await hosts[1].start()  # it has the list on disk
                await asyncio.sleep(0.5)
                assert block not in hosts[1].routes()

        asyncio.run(play())


class TestBadPeers:
    """A member of the network that misbehaves: it has a certificate, and a connection."""

    async def _connect(self, host: PeerHost, enemy: PeerHost) -> connect:
        tls = security.client_config(enemy.membership.credentials(), security.ROUTES)
        configuration = security.configuration(1.0, calls=True)
        return connect(str(host.address), PORT, alpn=security.ROUTES, tls=tls, configuration=configuration)

    @pytest.mark.parametrize(
        "data",
        [b"\x00\x01\x80\x10\x00\x00", b"\x63", b"\x00\x01\x03abc", b"\x02\x10\x02\x01\x01"],
        ids=["oversized", "unknown stream", "malformed", "before the hello"],
    )
    def test_what_is_not_of_the_protocol_ends_that_connection_alone(
        self, tmp_path: Path, data: bytes, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def play() -> None:
            async with running(tmp_path, 2) as hosts:
                await until(lambda: everybody_knows_everybody(hosts))
                enemy = PeerHost(tmp_path, 7, hosts[0])
                async with await self._connect(hosts[0], enemy) as connection:
                    stream = await connection.open_stream(unidirectional=True)
                    await stream.send(data)
                    closing = await connection.wait_closed()
                assert closing.code == CloseCode.PROTOCOL
                assert everybody_knows_everybody(hosts)

        monkeypatch.setattr(limits, "HELLO_S", 0.3)
        asyncio.run(play())

    def test_a_flood_is_held_back_and_others_do_not_notice(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def play() -> None:
            async with running(tmp_path, 2) as hosts:
                await until(lambda: everybody_knows_everybody(hosts))
                enemy = PeerHost(tmp_path, 7, hosts[0])
                network = enemy.membership.network().identity
                async with await self._connect(hosts[0], enemy) as connection:
                    control = await connection.open_stream(unidirectional=True)
                    await control.send(b"\x00" + encode(Hello(network, enemy.name, 1)))
                    flood = await connection.open_stream(unidirectional=True)
                    piece = encode(Withdraw(1, 0, 0)) * 1000
                    sent = 0

                    async def pour() -> None:
                        nonlocal sent
                        await flood.send(bytes((Channel.WITHDRAWALS,)))
                        while True:
                            await flood.send(piece)
                            sent += 1000

                    pouring = asyncio.create_task(pour())
                    await asyncio.sleep(1.0)
                    assert hosts[1].network is not None
                    hosts[1].network.announce({hosts[1].block: 0, POD: 0})
                    await until(lambda: str(POD) in hosts[0].routes())
                    held, begun = sent, time.monotonic()
                    await asyncio.sleep(1.0)
                    assert sent - held < 3 * limits.WORK_PER_S * (time.monotonic() - begun) + 60_000
                    pouring.cancel()

        monkeypatch.setattr(limits, "WORK_BURST", 5_000)
        asyncio.run(play())

    def test_a_peer_that_reads_nothing_is_owed_little_and_others_do_not_notice(self, tmp_path: Path) -> None:
        async def play() -> None:
            async with running(tmp_path, 2) as hosts:
                await until(lambda: everybody_knows_everybody(hosts))
                enemy = PeerHost(tmp_path, 7, hosts[0])
                async with await self._connect(hosts[0], enemy) as connection:
                    control = await connection.open_stream(unidirectional=True)
                    network = enemy.membership.network().identity
                    await control.send(b"\x00" + encode(Hello(network, enemy.name, 1)))
                    assert hosts[0].network is not None
                    for number in range(30):
                        pods = {ip_network(f"10.0.{100 + number}.{n}/32"): number for n in range(250)}
                        hosts[0].network.announce({hosts[0].block: 0, **pods})
                        await asyncio.sleep(0.01)
                    await until(lambda: len(hosts[1].routes()) == 251)
                    await until(lambda: not any(str(p).startswith("10.0.128") for p in hosts[1].routes()))

        asyncio.run(play())


def test_strangers_in_any_number_cannot_fill_the_disk_with_the_log(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def play() -> None:
        nobody: Any = SimpleNamespace(peers=None)
        options = PeerOptions((ip_address("127.0.1.1"),), PORT, ip_address("127.0.1.1"))
        told = Connections(nobody, nobody, nobody, options, lambda: None)
        now = asyncio.get_running_loop().time()
        monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: now)
        for number in range(5_000):
            told.warn("peer refused", f"2001:db8::{number:x}", "it shows no certificate")
        assert 100 < len(caplog.records) <= 1_000
        caplog.clear()
        now += 61.0
        told.warn("peer refused", "192.0.2.1", "it shows no certificate")
        told.warn("peer refused", "192.0.2.1", "it shows no certificate")
        assert len(caplog.records) == 1

    caplog.set_level(logging.WARNING)
    asyncio.run(play())
