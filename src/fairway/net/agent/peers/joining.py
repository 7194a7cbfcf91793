"""Joining and renewing: one question and one answer on one stream, to the node that has the authority's key."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from ipaddress import IPv6Address

from fairway.aio import ConnectionClosed, QuicConnection, Stream, connect
from fairway.net.agent.peers import security
from fairway.net.enrolment import (
    Authority,
    Credentials,
    Granted,
    JoinRequest,
    Membership,
    Refused,
    RenewRequest,
    Token,
    decode_answer,
    decode_question,
    encode,
    request,
)
from fairway.net.enrolment.messages import MAX_BYTES, Answer, Question
from fairway.net.exchange import CloseCode
from fairway.net.model.errors import FairwayError, UsageError
from fairway.net.model.permit import Permit
from fairway.tls import ClientConfig

_TIMEOUT_S = 10.0
"""For a connection, and for a question on one."""
_ANSWER_TIMEOUT_S = 60.0
"""For the answer of a host that has been reached: the authority may be busy, and waits for its disk."""
_KEEP_ALIVE_S = 1.0
"""So that the connection lives while it waits."""
_MAX_REDIRECTS = 3
"""Places that one answer may name."""
_MAX_PLACES = 40
"""Places that are asked for one answer: those that were known, and those that were named."""


def parse_endpoint(text: str, default_port: int) -> tuple[str, int]:
    """HOST, HOST:PORT or [IPv6]:PORT; `UsageError` if it is none."""
    host, port = text, ""
    if text.startswith("["):
        host, _, port = text[1:].partition("]")
        port = port.removeprefix(":")
    elif text.count(":") == 1:
        host, _, port = text.partition(":")
    if not host or (":" in host and not _is_ipv6(host)) or (port and not (port.isdecimal() and 0 < int(port) < 65536)):
        raise UsageError(f"{text!r} is not an address", mend="write it like 192.0.2.1, host:7946 or [2001:db8::1]:7946")
    return host, int(port or default_port)


def _is_ipv6(text: str) -> bool:
    try:
        return IPv6Address(text).version == 6
    except ValueError:
        return False


async def join(membership: Membership, where: tuple[str, int], token: Token, node: str) -> Credentials:
    """Join as `node` by way of any host of the network; its key is made here and stays here."""
    if membership.joined:
        raise UsageError("this host belongs to a network already", mend="see: fairway peers")
    key = membership.pending_key()
    asked = request(key, node)
    question = JoinRequest(node, token.number, token.proof(node, asked), asked)
    tls = ClientConfig(None, (security.JOIN,), verify=False)  # who answers is judged by the token's fingerprint

    def judge(connection: QuicConnection) -> bool:
        security.authority_by_fingerprint(connection.peer_certificates, token.fingerprint, datetime.now(UTC))
        return True  # which node has the authority's key is not known yet

    granted = await _ask([where], question, tls, judge)
    return membership.accept(granted, key, node, datetime.now(UTC), token.fingerprint)


async def renew(membership: Membership, where: Sequence[tuple[str, int]]) -> Credentials:
    """Have the next certificate, with a new key, of the authority, which is at one of the places, if they are right.

    What they are is in part what other members say. The authority's node is known by its certificate: whoever else is
    there can only name more places.
    """
    credentials, authority = membership.credentials(), membership.network().authority
    node, key = credentials.permit.node, membership.pending_key()
    question = RenewRequest(request(key, node))
    tls = security.client_config(credentials, security.JOIN)

    def judge(connection: QuicConnection) -> bool:
        return security.shown(connection.peer_certificates).permit.node == authority

    return membership.accept(await _ask(where, question, tls, judge), key, node, datetime.now(UTC))


async def _ask(
    places: Sequence[tuple[str, int]],
    question: Question,
    tls: ClientConfig,
    judge: Callable[[QuicConnection], bool],
) -> Granted:
    """The answer of the authority, wherever it turns out to be.

    `judge` says whether what a peer answers counts; if not, only the places that it names do.
    """
    error = FairwayError("nobody is known who has the network's authority")
    queue = list(dict.fromkeys(places))
    for asked, (host, port) in enumerate(queue):
        if asked >= _MAX_PLACES:
            break
        try:
            answer, counts = await _ask_one(host, port, question, tls, judge)
            if isinstance(answer, Granted):
                if counts:
                    return answer
                raise FairwayError(f"{host} answers in the authority's place")
            named = [parse_endpoint(each, port) for each in answer.elsewhere[:_MAX_REDIRECTS]]
        except (OSError, ConnectionClosed) as problem:
            error = security.clock_error(host, problem) or FairwayError(
                f"{host} does not answer on UDP port {port}: {str(problem) or 'no answer in time'}",
                mend="is the agent running there, and does a firewall let UDP through?",
            )
            continue
        except FairwayError as problem:
            error = problem
            continue
        error = UsageError(answer.message, mend=answer.mend)
        if counts and not named:
            break
        queue += [place for place in named if place not in queue]
    raise error


async def _ask_one(
    host: str, port: int, question: Question, tls: ClientConfig, judge: Callable[[QuicConnection], bool]
) -> tuple[Answer, bool]:
    """What the host at that address answers, and what `judge` says of it."""
    # Of the two idle timeouts the shorter one counts once there is a connection; until then this one, and is not to.
    configuration = replace(security.configuration(_KEEP_ALIVE_S, calls=True), idle_timeout_s=_ANSWER_TIMEOUT_S)
    async with (
        asyncio.timeout(_TIMEOUT_S) as limit,
        connect(host, port, alpn=security.JOIN, tls=tls, configuration=configuration) as connection,
    ):
        counts = judge(connection)
        limit.reschedule(asyncio.get_running_loop().time() + (_ANSWER_TIMEOUT_S if counts else _TIMEOUT_S))
        stream = await connection.open_stream()
        await stream.send(encode(question), end=True)
        try:
            return decode_answer(await stream.receive_all(MAX_BYTES)), counts
        except ValueError:
            raise FairwayError(f"{host} answers at length, and not as the authority does") from None


class Registrar:
    """What answers hosts that join and nodes that renew, on whichever node they ask."""

    def __init__(self, authority: Authority, elsewhere: Callable[[], tuple[str, ...]]) -> None:
        self._authority = authority
        self._elsewhere = elsewhere
        """Where the authority is, if it is not here."""
        self._turn = asyncio.Lock()

    async def serve(self, connection: QuicConnection, permit: Permit | None) -> None:
        """Answer one question; `permit` is what the asker's certificate says, if it showed one that is valid."""
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                stream = await connection.accept_stream()
                await self._answer(stream, permit)
                await connection.wait_closed()
        except TimeoutError:
            connection.close(CloseCode.PROTOCOL, "no question in time")

    async def _answer(self, stream: Stream, permit: Permit | None) -> None:
        try:
            question = decode_question(await stream.receive_all(MAX_BYTES))
            answer: Answer
            if not self._authority.here:
                answer = Refused("the network's authority is on another host", elsewhere=self._elsewhere())
            else:
                async with self._turn:  # the authority's file has one user at a time, and waits for the disk
                    answer = await asyncio.to_thread(self._decide, question, permit)
        except ValueError:
            answer = Refused("the question is too long")
        except FairwayError as error:
            answer = Refused(error.message, error.mend)
        with contextlib.suppress(ConnectionClosed):
            await stream.send(encode(answer), end=True)

    def _decide(self, question: Question, permit: Permit | None) -> Granted:
        now = datetime.now(UTC)
        if isinstance(question, JoinRequest):
            return self._authority.admit(question, now)
        if permit is None:
            raise UsageError("only a node with a valid certificate can renew it", mend="join anew with a token")
        return self._authority.renew(permit, question, now)
