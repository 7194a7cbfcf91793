"""Certificates, names and sockets, for QUIC and TCP alike."""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
from pathlib import Path

import httpx
import pytest
from asgi_serving import IDENTITY, ask_h3, serving

from fairway.aio import http3
from fairway.http.server.asgi import Receive, Scope, Send
from fairway.http.server.certificates import CertificateError, Certificates, load_identity, pem, ssl_context
from fairway.http.server.service import Service, Settings
from fairway.http.server.sockets import open_sockets
from fairway.tls import self_signed_identity


async def who(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "lifespan":
        raise NotImplementedError
    tls = scope["extensions"].get("tls", {})
    body = f"{tls.get('client_cert_name')} {len(tls.get('client_cert_chain', ()))}"
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body.encode()})


def test_a_clients_certificate_is_in_the_scope_and_may_be_required(tmp_path: Path) -> None:
    client = self_signed_identity(["client.example"])
    (tmp_path / "ca.pem").write_text(pem(client))

    async def main() -> None:
        sockets = open_sockets("127.0.0.1", 0)
        certificates = Certificates((IDENTITY,), tmp_path / "ca.pem", True)
        service = Service(who, Settings(certificates), udp=sockets.udp, tcp=sockets.tcp)
        await service.start()
        options = {"server_name": "localhost", "verify": False}
        async with http3.connect("127.0.0.1", sockets.port, identity=client, **options) as connection:
            assert (await ask_h3(connection)).body == b"CN=client.example 1"
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        async with httpx.AsyncClient(verify=context, trust_env=False) as stranger:
            with pytest.raises(httpx.TransportError):
                await stranger.get(f"https://127.0.0.1:{sockets.port}/")
        await service.close(1.0)
        sockets.close()

    asyncio.run(main())


def test_a_clients_name_chooses_among_certificates_over_tcp() -> None:
    other = self_signed_identity(["*.example.org"])
    context = ssl_context(Certificates((IDENTITY, other)), ["http/1.1"])
    trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
    for name, shown in (("localhost", IDENTITY), ("www.example.org", other), ("unknown", IDENTITY)):
        to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
        client = trusting.wrap_bio(to_client, to_server, server_hostname=name)
        server = context.wrap_bio(to_server, to_client, server_side=True)
        for side in (client, server, client):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
        assert client.getpeercert(binary_form=True) == shown.chain[0]


def test_plain_http_is_redirected_to_https() -> None:
    async def main() -> None:
        sockets = open_sockets("127.0.0.1", 0, redirect_port=0)
        service = Service(
            who, Settings(Certificates((IDENTITY,))), udp=sockets.udp, tcp=sockets.tcp, redirect=sockets.redirect
        )
        await service.start()
        plain = sockets.redirect[0].getsockname()[1]
        async with httpx.AsyncClient(trust_env=False) as client:
            answer = await client.post(f"http://127.0.0.1:{plain}/a%20b?c=d", content=b"x")
            assert answer.status_code == 308
            assert answer.headers["location"] == f"https://127.0.0.1:{sockets.port}/a%20b?c=d"
        await service.close(1.0)
        sockets.close()

    asyncio.run(main())


def test_without_a_host_ipv4_and_ipv6_are_served_and_clients_have_plain_addresses() -> None:
    seen: list[Scope] = []

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope)
        await who(scope, receive, send)

    async def main() -> None:
        sockets = open_sockets(None, 0)
        service = Service(application, Settings(Certificates((IDENTITY,))), udp=sockets.udp, tcp=sockets.tcp)
        await service.start()
        for host in ("127.0.0.1", "::1"):
            async with http3.connect(host, sockets.port, server_name="localhost", verify=False) as connection:
                assert (await ask_h3(connection)).status == 200
        await service.close(1.0)
        sockets.close()

    asyncio.run(main())
    assert [scope["client"][0] for scope in seen if scope["type"] == "http"] == ["127.0.0.1", "::1"]


def test_a_taken_port_is_an_error_that_names_it() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match=f"TCP port {port}") as caught:
            open_sockets("127.0.0.1", port)
        assert caught.value.errno == errno.EADDRINUSE


def test_a_key_that_is_another_certificates_is_named(tmp_path: Path) -> None:
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    chain, key = tmp_path / "chain.pem", tmp_path / "key.pem"
    chain.write_text(pem(IDENTITY))
    other = self_signed_identity(["other"])
    key.write_bytes(other.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    with pytest.raises(CertificateError, match=r"key\.pem: the private key is not that of the first certificate"):
        load_identity(chain, key)


@pytest.mark.parametrize("two", [False, True])
def test_over_tcp_as_well_sending_to_a_client_that_left_is_an_error(two: bool) -> None:
    async def main() -> None:
        outcome: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()

        async def application(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] == "lifespan":
                raise NotImplementedError
            await send({"type": "http.response.start", "status": 200, "headers": []})
            try:
                while True:
                    await send({"type": "http.response.body", "body": bytes(50_000), "more_body": True})
                    await asyncio.sleep(0)
            except OSError as error:
                outcome.set_result(error)
                raise

        async with serving(application, tcp=True) as served:
            async with (
                httpx.AsyncClient(verify=False, http2=two, http1=not two, trust_env=False) as client,
                client.stream("GET", f"https://127.0.0.1:{served.port}/") as response,
            ):
                async for _ in response.aiter_raw():
                    break
            assert isinstance(await asyncio.wait_for(outcome, 10), OSError)

    asyncio.run(main())
