"""What is in the kernel, read by `ip`, `nft` and `tc`; and packets, sent by `ping` and sockets."""

from __future__ import annotations

import ctypes
import json
import os
import re
import socket
import subprocess
import time
from collections.abc import Callable
from typing import Any

HOST = ""
"""The namespace of the host that the kit plays, in every call that takes a namespace's name."""

_CLONE_NEWNET = 0x40000000  # linux/sched.h
_VOLATILE = re.compile(r'"(handle|packets|bytes|index)": \d+(, )?')


def run(*command: str, namespace: str = HOST, check: bool = True) -> str:
    """What a command prints, run in a namespace. A command that fails is an error unless `check` is False."""
    prefix = [f"nsenter --net=/run/netns/{namespace}"] if namespace else []
    words = [word for part in prefix for word in part.split()] + list(command)
    done = subprocess.run(words, capture_output=True, text=True)
    if check and done.returncode:
        raise OSError(f"{' '.join(words)}: {done.stderr.strip()}")
    return done.stdout


def ip(arguments: str, namespace: str = HOST) -> list[dict[str, Any]]:
    """What `ip -j ARGUMENTS` prints, decoded; an empty list where it prints nothing."""
    printed = run("ip", "-j", *(["-n", namespace] if namespace else []), *arguments.split())
    # iproute2 prints an empty object for what a filter left out.
    return [entry for entry in json.loads(printed or "[]") if entry]


def batch(lines: str, namespace: str = HOST) -> None:
    """Do several `ip` commands, a line each."""
    where = ["-n", namespace] if namespace else []
    done = subprocess.run(["ip", *where, "-batch", "-"], input=lines, capture_output=True, text=True)
    if done.returncode:
        raise OSError(f"ip {lines.strip()}: {done.stderr.strip()}")


def link(name: str, namespace: str = HOST) -> dict[str, Any] | None:
    """One link as `ip -j link` tells it, or None."""
    return next((entry for entry in ip("link show", namespace) if entry["ifname"] == name), None)


def links(namespace: str = HOST) -> set[str]:
    """The names of all links."""
    return {entry["ifname"] for entry in ip("link show", namespace)}


def addresses(name: str, namespace: str = HOST) -> set[str]:
    """A link's addresses but the link-local ones, each with its prefix length."""
    found = [entry for entry in ip("addr show", namespace) if entry["ifname"] == name]
    every = [address for entry in found for address in entry["addr_info"]]
    return {f"{a['local']}/{a['prefixlen']}" for a in every if not a["local"].startswith("fe80:")}


def routes(namespace: str = HOST) -> list[tuple[str, str, str]]:
    """Destination ("0.0.0.0/0" for a default), gateway ("" without) and link, of the main table, both IP versions."""
    found = []
    for family, default, whole in (("-4", "0.0.0.0/0", "/32"), ("-6", "::/0", "/128")):
        for entry in ip(f"{family} route show", namespace):
            destination = default if entry["dst"] == "default" else entry["dst"]
            via = entry.get("gateway") or entry.get("via", {}).get("host", "")
            found.append((destination if "/" in destination else destination + whole, via, entry.get("dev", "")))
    return found


def snapshot() -> dict[str, set[str]]:
    """Everything of the host that an attachment may leave behind: links, addresses, routes, rules, filters, shapers."""
    ruleset = run("nft", "-j", "list", "ruleset", check=False)
    found = json.loads(ruleset or '{"nftables": []}')["nftables"]
    # A chain or table that is empty holds nobody's packet and nobody's address; it is the network's, not a container's.
    rules = [entry for entry in found if entry.keys() & {"rule", "element", "set", "map"}]
    # The kernel's own link-local and multicast routes come and go with links, in its own time.
    routes = ip("-4 route show table all") + [
        entry for entry in ip("-6 route show table all") if not entry["dst"].startswith(("fe80:", "ff"))
    ]
    return {
        "links": links(),
        "addresses": {
            f"{entry['ifname']} {address['local']}"
            for entry in ip("addr show")
            for address in entry["addr_info"]
            if not address["local"].startswith("fe80:")
        },
        "routes": {f"{e.get('type', '')} {e['dst']} {e.get('dev', '')} {e.get('table', '')}".strip() for e in routes},
        "policy rules": {json.dumps(entry, sort_keys=True) for entry in ip("-4 rule show") + ip("-6 rule show")},
        "nftables": {_VOLATILE.sub("", json.dumps(entry, sort_keys=True)) for entry in rules},
        "iptables": _legacy_rules(),
        "queueing": {line for line in run("tc", "qdisc", "show", check=False).splitlines() if "noqueue" not in line},
    }


def _legacy_rules() -> set[str]:
    saved = run("sh", "-c", "iptables-legacy-save 2>/dev/null; ip6tables-legacy-save 2>/dev/null", check=False)
    return {line for line in saved.splitlines() if line.startswith("-A")}


def left_over(before: dict[str, set[str]], after: dict[str, set[str]]) -> str:
    """What is in `after` that was not in `before`, in words; empty if nothing is."""
    found = []
    for kind, things in after.items():
        new = sorted(things - before[kind])
        if new:
            more = f" and {len(new) - 3} more" if len(new) > 3 else ""
            found.append(f"{kind}: {'; '.join(thing[:120] for thing in new[:3])}{more}")
    return ", ".join(found)


def eventually(condition: Callable[[], object], seconds: float = 3.0) -> bool:
    """Whether the condition comes true within `seconds`: the kernel takes namespaces and links away in its own time."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


def reaches(destination: str, namespace: str = HOST, seconds: float = 3.0) -> bool:
    """Whether a ping from the namespace is answered, within `seconds`."""
    return eventually(lambda: _ping(destination, namespace), seconds)


def _ping(destination: str, namespace: str) -> bool:
    command = ["ping", "-n", "-q", "-c", "1", "-W", "1", destination]
    if namespace:
        command = ["nsenter", f"--net=/run/netns/{namespace}", *command]
    return subprocess.run(command, capture_output=True).returncode == 0


def transfer(size: int, address: str, server: str, client: str, port: int = 0, seen_as: str = "") -> int:
    """Send `size` bytes by TCP from namespace `client` to a server in `server`; returns how many arrived.

    The server listens on `address` and `port` (0: any); the client connects to `seen_as` (HOST:PORT) if it is given.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    listener = _socket_in(server, family)
    listener.settimeout(5)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((address, port))
    listener.listen()
    target = (seen_as.rsplit(":", 1)[0], int(seen_as.rsplit(":", 1)[1])) if seen_as else listener.getsockname()[:2]
    sender = os.fork()
    if sender == 0:
        try:
            with _socket_in(client, family) as connection:
                connection.settimeout(5)
                connection.connect(target)
                connection.sendall(b"x" * size)
        finally:
            os._exit(0)
    received = 0
    try:
        connection, _ = listener.accept()
        with connection:
            connection.settimeout(5)
            while piece := connection.recv(65536):
                received += len(piece)
    except OSError:
        pass  # what arrived is the answer
    finally:
        listener.close()
        os.waitpid(sender, 0)
    return received


def _socket_in(namespace: str, family: int) -> socket.socket:
    """A TCP socket that lives in the namespace: a socket belongs to the one that its thread was in when it was made."""
    if not namespace:
        return socket.socket(family, socket.SOCK_STREAM)
    libc = ctypes.CDLL(None, use_errno=True)
    here = os.open("/proc/self/ns/net", os.O_RDONLY)
    there = os.open(f"/run/netns/{namespace}", os.O_RDONLY)
    try:
        if libc.setns(there, _CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), f"cannot enter {namespace}")
        return socket.socket(family, socket.SOCK_STREAM)
    finally:
        libc.setns(here, _CLONE_NEWNET)
        os.close(here)
        os.close(there)
