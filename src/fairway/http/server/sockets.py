"""The sockets that a server listens on: UDP and TCP with the same port number."""

from __future__ import annotations

import contextlib
import errno
import socket
from dataclasses import dataclass, field

BACKLOG = 1024
_ATTEMPTS = 20


@dataclass(slots=True)
class Sockets:
    """Bound sockets."""

    udp: socket.socket
    tcp: list[socket.socket] = field(default_factory=list)
    redirect: list[socket.socket] = field(default_factory=list)

    @property
    def port(self) -> int:
        """The port number of UDP and TCP."""
        return int(self.udp.getsockname()[1])

    def close(self) -> None:
        """Close them all."""
        for sock in (self.udp, *self.tcp, *self.redirect):
            sock.close()


def open_sockets(host: str | None, port: int, *, tcp: bool = True, redirect_port: int | None = None) -> Sockets:
    """Bind everything; with port 0, to a number that is free for UDP and TCP. `OSError` names what is taken."""
    for attempt in range(_ATTEMPTS):
        with contextlib.ExitStack() as stack:
            udp = _bind(stack, host, port, socket.SOCK_DGRAM)
            number = udp.getsockname()[1]
            sockets = Sockets(udp)
            try:
                if tcp:
                    sockets.tcp.append(_listen(stack, host, number))
            except OSError as error:
                if port or error.errno != errno.EADDRINUSE or attempt + 1 == _ATTEMPTS:
                    raise
                continue
            if redirect_port is not None:
                sockets.redirect.append(_listen(stack, host, redirect_port))
            stack.pop_all()
            return sockets
    raise AssertionError("the last attempt returns or raises")


def _listen(stack: contextlib.ExitStack, host: str | None, port: int) -> socket.socket:
    sock = _bind(stack, host, port, socket.SOCK_STREAM)
    sock.listen(BACKLOG)
    return sock


def _bind(stack: contextlib.ExitStack, host: str | None, port: int, kind: socket.SocketKind) -> socket.socket:
    family, address = _resolve(host, port, kind)
    sock = stack.enter_context(socket.socket(family, kind))
    if kind == socket.SOCK_STREAM:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # connections inherit it from who accepts them
    if family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    sock.setblocking(False)
    try:
        sock.bind(address)
    except OSError as error:
        name = "UDP" if kind == socket.SOCK_DGRAM else "TCP"
        what = f"{host or 'all addresses'}, {name} port {port}: {error.strerror}"
        if error.errno == errno.EADDRINUSE:
            what += f" (who has it: ss -l{'u' if kind == socket.SOCK_DGRAM else 't'}np 'sport = {port}')"
        elif error.errno == errno.EACCES:
            what += " (ports below 1024 need root or CAP_NET_BIND_SERVICE)"
        raise OSError(error.errno, what) from error
    return sock


def _resolve(
    host: str | None, port: int, kind: socket.SocketKind
) -> tuple[int, tuple[str, int] | tuple[str, int, int, int]]:
    if host is None or host in ("", "::"):
        if socket.has_dualstack_ipv6():
            return socket.AF_INET6, ("::", port)
        return socket.AF_INET, ("0.0.0.0", port)
    try:
        found = socket.getaddrinfo(host, port, type=kind, flags=socket.AI_PASSIVE)
    except socket.gaierror as error:
        raise OSError(errno.EADDRNOTAVAIL, f"{host} is no address of this machine: {error.strerror}") from error
    family, _, _, _, address = found[0]
    return family, address  # type: ignore[return-value]
