"""Members that lie about where the authority is and about what it granted; clocks that differ."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest
from peer_hosts import PORT, PeerHost, everybody_knows_everybody, now, running, until

from fairway.aio import QuicConnection, connect, serve
from fairway.net.agent.peers import joining, security
from fairway.net.agent.peers.joining import join, renew
from fairway.net.agent.peers.standing import Standing
from fairway.net.enrolment import (
    Authority,
    Block,
    Granted,
    JoinRequest,
    Membership,
    Refused,
    RenewRequest,
    Token,
    decode_answer,
    decode_question,
    encode,
    permit_of,
    request,
)
from fairway.net.enrolment.certificate import new_key
from fairway.net.enrolment.messages import Answer, Question
from fairway.net.exchange import Endpoint, limits
from fairway.net.exchange.messages import Member
from fairway.net.model.errors import FairwayError, UsageError
from fairway.net.model.permit import Permit
from fairway.tls import ClientConfig

NOW = datetime(2026, 5, 1, 12, 0, tzinfo=UTC)
YEAR = timedelta(days=365)


@contextlib.asynccontextmanager
async def listening(host: PeerHost) -> AsyncIterator[None]:
    await host.start()
    try:
        yield
    finally:
        await host.stop()


def place(host: PeerHost) -> tuple[str, int]:
    return str(host.address), PORT


@contextlib.asynccontextmanager
async def lying(host: PeerHost, answer: Callable[[Question], Answer | bytes]) -> AsyncIterator[list[Question]]:
    """The member `host` answers whoever joins or renews in its own way; gives what it was asked."""
    asked: list[Question] = []

    async def handle(connection: QuicConnection) -> None:
        stream = await connection.accept_stream()
        asked.append(decode_question(await stream.receive_all(65_536)))
        said = answer(asked[-1])
        await stream.send(said if isinstance(said, bytes) else encode(said), end=True)
        await connection.wait_closed()

    server = await serve(
        handle,
        *place(host),
        alpn=(security.JOIN,),
        identities=(),
        tls=security.server_config(host.membership.credentials()),
        configuration=security.configuration(1.0, calls=False),
    )
    try:
        yield asked
    finally:
        await server.close(0.0)


def as_its_own(authority: Authority, liar: PeerHost) -> Callable[[Question], Granted]:
    """Renews itself with the key of whoever asks: the authority grants a certificate with that key, for the liar."""
    permit = liar.membership.credentials().permit
    return lambda asked: authority.renew(permit, RenewRequest(asked.request), now())


class TestAMemberWhereTheAuthorityIsSaidToBe:
    @pytest.mark.parametrize(
        "answer", ["no", "elsewhere, itself", "garbage", "at length", "for itself", "of its own authority"]
    )
    def test_does_not_keep_a_node_from_the_authority(self, tmp_path: Path, answer: str) -> None:
        async def play() -> None:
            first = PeerHost(tmp_path, 1)
            liar, honest = PeerHost(tmp_path, 2, first), PeerHost(tmp_path, 3, first)
            before = honest.membership.credentials().permit
            rogue = Authority(tmp_path / "rogue")
            rogue.create("node1", [Block(ip_network("10.0.0.0/16"))], now(), PORT)
            answers: dict[str, Callable[[Question], Answer | bytes]] = {
                "no": lambda asked: Refused("you are revoked", "leave"),
                "elsewhere, itself": lambda asked: Refused("ask there", elsewhere=("127.0.1.2:7946",) * 3 + ("::::",)),
                "garbage": lambda asked: b"{]",
                "at length": lambda asked: b" " * 70_000,
                "for itself": as_its_own(first.authority, liar),
                "of its own authority": lambda asked: rogue.enrol("node3", asked.request, now()),
            }
            async with listening(first):
                async with lying(liar, answers[answer]) as asked:
                    credentials = await renew(honest.membership, [place(liar), place(liar), place(first)])
                    assert len(asked) == 1
                assert credentials.permit.node == "node3"
                assert credentials.permit.serial != before.serial
                assert honest.membership.credentials().permit == credentials.permit
                rogue.close()

        asyncio.run(play())

    def test_may_say_where_else_to_ask_as_honest_ones_do(self, tmp_path: Path) -> None:
        async def play() -> None:
            async with running(tmp_path, 3) as hosts:
                await until(lambda: everybody_knows_everybody(hosts))
                before = hosts[2].membership.credentials().permit.serial
                credentials = await renew(hosts[2].membership, [place(hosts[1])])
                assert credentials.permit.serial != before

        asyncio.run(play())

    def test_names_places_without_end_and_is_left_in_the_end(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asked: list[int] = []

        async def ask(host: str, port: int, *_: object) -> tuple[Answer, bool]:
            asked.append(port)
            return Refused("there", elsewhere=tuple(f"127.0.0.1:{10 * port + n}" for n in range(1, 4))), False

        monkeypatch.setattr(joining, "_ask_one", ask)
        monkeypatch.setattr(joining, "parse_endpoint", lambda text, port: ("127.0.0.1", int(text.partition(":")[2])))
        first = PeerHost(tmp_path, 1)
        honest = PeerHost(tmp_path, 2, first)
        with pytest.raises(FairwayError, match="there"):
            asyncio.run(renew(honest.membership, [("127.0.0.1", 1)]))
        assert len(asked) == 40
        first.authority.close()

    def test_does_not_displace_what_the_authority_signed(self, tmp_path: Path) -> None:
        """Of the authority, which is away, others say that it is at the liar's."""

        async def play() -> None:
            first = PeerHost(tmp_path, 1)
            honest = PeerHost(tmp_path, 2, first)
            network = await honest.start()
            lie = Member("node1", (Endpoint(ip_address("127.0.1.9"), PORT),))
            network.exchange.directory.told([lie], asyncio.get_running_loop().time())
            tls = ClientConfig(None, (security.JOIN,), verify=False)
            async with connect(*place(honest), alpn=security.JOIN, tls=tls) as connection:
                stream = await connection.open_stream()
                await stream.send(encode(RenewRequest(request(new_key(), "new"))), end=True)
                answer = decode_answer(await stream.receive_all(65_536))
            assert isinstance(answer, Refused)
            assert answer.elsewhere == ("127.0.1.1:7946", "127.0.1.9:7946")
            await honest.stop()
            first.authority.close()

        asyncio.run(play())


class TestAMemberByWhoseWayAHostJoins:
    @pytest.mark.parametrize("change", ["authority", "endpoints", "pools", "revocations", "unsigned", "old"])
    def test_cannot_change_or_leave_out_what_the_authority_says(self, tmp_path: Path, change: str) -> None:
        async def play() -> None:
            first = PeerHost(tmp_path, 1)
            liar, gone = PeerHost(tmp_path, 2, first), PeerHost(tmp_path, 3, first)
            old = first.authority.renew(liar.membership.credentials().permit, _renewal(), now())
            first.authority.revoke(gone.name, now())

            def answer(asked: Question) -> Answer:
                assert isinstance(asked, JoinRequest)
                granted = first.authority.admit(asked, now())
                fields = json.loads(granted.network)
                if change in ("authority", "endpoints", "pools"):
                    lies = {"authority": "node2", "endpoints": ["127.0.1.2:7946"], "pools": ["0.0.0.0/0"]}
                    return replace(granted, network=json.dumps(fields | {change: lies[change]}))
                if change == "revocations":
                    return replace(granted, revocations=b"")
                if change == "unsigned":
                    return replace(granted, signature=b"")
                return replace(granted, network=old.network, revocations=b"", signature=old.signature)

            token, new = first.authority.token(now()), Membership(tmp_path / "new")
            async with lying(liar, answer):
                with pytest.raises(FairwayError, match="not what the authority signed"):
                    await join(new, place(liar), token, "new")
            assert not new.joined
            async with listening(first):
                assert (await join(new, place(first), token, "new")).permit.node == "new"  # the token is not spent
                assert new.revocations() is not None

        asyncio.run(play())

    def test_cannot_make_it_the_member(self, tmp_path: Path) -> None:
        async def play() -> None:
            first = PeerHost(tmp_path, 1)
            liar = PeerHost(tmp_path, 2, first)
            token, new = first.authority.token(now()), Membership(tmp_path / "new")
            async with lying(liar, as_its_own(first.authority, liar)):
                with pytest.raises(FairwayError, match="for node2, and not for new"):
                    await join(new, place(liar), token, "new")
            assert not new.joined
            first.authority.close()

        asyncio.run(play())


def _renewal() -> RenewRequest:
    return RenewRequest(request(new_key(), "any"))


class TestTheAuthoritysName:
    def test_is_nobody_elses_though_its_own_certificate_has_ended(self, tmp_path: Path) -> None:
        authority = Authority(tmp_path)
        authority.create("first", [Block(ip_network("10.0.0.0/16"))], NOW, PORT)
        authority.enrol("first", request(new_key(), "first"), NOW)
        later = NOW + timedelta(days=60)
        with pytest.raises(UsageError, match="there is a node first already"):
            authority.admit(question(authority.token(later), "first"), later)


def question(token: Token, node: str) -> JoinRequest:
    signing = request(new_key(), node)
    return JoinRequest(node, token.number, token.proof(node, signing), signing)


class OwnClock(Authority):
    """An authority in this process whose clock is right, whatever that of who asks says."""

    def admit(self, asked: JoinRequest, now: datetime) -> Granted:
        return super().admit(asked, datetime.now(UTC))

    def renew(self, permit: Permit, asked: RenewRequest, now: datetime) -> Granted:
        return super().renew(permit, asked, datetime.now(UTC))


def with_right_clock(directory: Path) -> PeerHost:
    first = PeerHost(directory, 1)
    first.authority.close()
    first.authority = OwnClock(first.state)
    return first


class TestAHostWhoseClock:
    @pytest.mark.parametrize("skew", [-YEAR, -timedelta(hours=2), timedelta(days=25), YEAR])
    def test_is_wrong_is_told_so_when_it_joins_and_joins_by_the_same_token_when_it_is_right(
        self, tmp_path: Path, skew: timedelta, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def play() -> None:
            first = with_right_clock(tmp_path)
            async with listening(first):
                token, new = first.authority.token(now()), Membership(tmp_path / "new")
                with monkeypatch.context() as patch:
                    set_clock(patch, skew)
                    with pytest.raises(FairwayError, match="clock") as refused:
                        await join(new, place(first), token, "new")
                    assert "timedatectl" in refused.value.mend
                    assert not new.joined
                assert (await join(new, place(first), token, "new")).permit.node == "new"
                assert len(first.authority.revoke("new", now()).serials) == 1

        asyncio.run(play())

    @pytest.mark.parametrize("skew", [-timedelta(minutes=50), timedelta(days=1)])
    def test_is_a_little_wrong_joins(self, tmp_path: Path, skew: timedelta, monkeypatch: pytest.MonkeyPatch) -> None:
        async def play() -> None:
            first = with_right_clock(tmp_path)
            async with listening(first):
                token, new = first.authority.token(now()), Membership(tmp_path / "new")
                with monkeypatch.context() as patch:
                    set_clock(patch, skew)
                    assert (await join(new, place(first), token, "new")).permit.node == "new"

        asyncio.run(play())

    def test_is_ahead_does_not_use_up_its_certificates_by_renewing(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        async def play() -> None:
            first = with_right_clock(tmp_path)
            late = PeerHost(tmp_path, 2, first)
            async with listening(first):
                standing = Standing(late.membership, late.authority)
                with monkeypatch.context() as patch:
                    set_clock(patch, timedelta(days=25))
                    for _ in range(12):
                        assert not await standing.renew([place(first)])
                assert "ahead of the authority's" in said(caplog)
                assert await standing.renew([place(first)])
                assert len(first.authority.revoke(late.name, now()).serials) == 2

        asyncio.run(play())

    @pytest.mark.parametrize("skew", [-YEAR, YEAR])
    def test_is_a_year_off_is_named_as_the_reason_that_it_has_no_peers(
        self, tmp_path: Path, skew: timedelta, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        async def play() -> None:
            first = with_right_clock(tmp_path)
            wrong = PeerHost(tmp_path, 2, first)
            late = Standing(wrong.membership, wrong.authority)
            async with listening(first):
                with monkeypatch.context() as patch:
                    set_clock(patch, skew)
                    assert not await late.renew([place(first)])
                assert "certificate is not valid now" in said(caplog)
                assert "timedatectl" in said(caplog)

        asyncio.run(play())

    def test_is_a_year_off_while_its_agent_runs_is_told_so_and_does_not_call_again_at_once(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        async def play() -> None:
            first = PeerHost(tmp_path, 1)
            wrong = PeerHost(tmp_path, 2, first)
            async with listening(first):
                set_clock(monkeypatch, YEAR)
                async with listening(wrong):
                    assert wrong.network is not None
                    await until(lambda: "clocks differ" in said(caplog))
                    (seed,) = wrong.network.exchange.directory.seeds.values()
                    # What takes a person is not tried again and again.
                    assert seed.next_call - asyncio.get_running_loop().time() > limits.DIAL_REFUSED_S / 2
                    assert "timedatectl" in said(caplog)

        asyncio.run(play())

    def test_makes_the_other_refuse_it_is_told_so_and_does_not_call_again_at_once(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        async def play() -> None:
            first = PeerHost(tmp_path, 1)
            late = PeerHost(tmp_path, 2, first)
            monkeypatch.setattr("fairway.aio.server._now", lambda: now() + YEAR)  # of whoever is called
            async with listening(first), listening(late):
                await until(lambda: "refused by a peer" in said(caplog))
                assert "a certificate is not valid now" in said(caplog)
                assert late.network is not None
                (seed,) = late.network.exchange.directory.seeds.values()
                assert seed.next_call - asyncio.get_running_loop().time() > limits.DIAL_REFUSED_S / 2

        asyncio.run(play())


def said(caplog: pytest.LogCaptureFixture) -> str:
    """All that was logged, with its fields."""
    return "\n".join(f"{record.message} {getattr(record, 'fields', '')}" for record in caplog.records)


def set_clock(patch: pytest.MonkeyPatch, skew: timedelta) -> None:
    """The clock of whoever joins or renews: so much ahead of that of the others in this process."""

    class Skewed(datetime):
        @classmethod
        def now(cls, tz: object = None) -> datetime:  # type: ignore[override]
            return datetime.now(UTC) + skew

    patch.setattr(joining, "datetime", Skewed)
    patch.setattr(security, "datetime", Skewed)
    patch.setattr("fairway.aio.client._now", Skewed.now)


class TestAnAuthorityWhoseClock:
    def test_was_ahead_for_a_while_still_knows_members_and_who_is_revoked(self, tmp_path: Path) -> None:
        authority = Authority(tmp_path)
        authority.create("first", [Block(ip_network("10.0.0.0/16"))], NOW, PORT)
        authority.enrol("first", request(new_key(), "first"), NOW)
        good = permit_of(authority.admit(question(authority.token(NOW), "good"), NOW).certificate)
        bad = permit_of(authority.admit(question(authority.token(NOW), "bad"), NOW).certificate)
        authority.revoke("bad", NOW)
        ahead = NOW + YEAR
        authority.enrol("first", request(new_key(), "first"), ahead)  # whatever is granted meanwhile
        revocations = authority.revocations(NOW)
        assert revocations is not None
        assert bad.serial in revocations.serials
        assert permit_of(authority.renew(good, _renewal(), NOW).certificate).node == "good"

    def test_was_ahead_grants_itself_a_certificate_that_is_good_now(self, tmp_path: Path) -> None:
        first = PeerHost(tmp_path, 1)
        key = first.membership.pending_key()
        granted = first.authority.enrol("node1", request(key, "node1"), now() + YEAR)
        first.membership.accept(granted, key, "node1", now() + YEAR)
        standing = Standing(first.membership, first.authority)
        assert standing.renewal_due(now(), 0.0)
        assert asyncio.run(standing.renew([]))
        assert not standing.renewal_due(now(), 1_000.0)
        first.authority.close()
