"""Network policy: what it costs a packet, a new connection and a change, with none, with one and with many in force.

The many are 10,000 pods of 100 applications, each with a policy of its own; two of them are here and talk.
"""

from __future__ import annotations

import json
import os
import socket
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ipaddress import ip_address, ip_network
from pathlib import Path

from bench.isolation import isolated
from bench.result import Result
from fairway.net.host import Host
from fairway.net.kernel import namespaces
from fairway.net.kernel.netfilter.firewall import TABLE
from fairway.net.kernel.netfilter.policy import PolicyDriver
from fairway.net.model.policy import Endpoint
from fairway.net.model.policy_table import PolicyTable
from fairway.net.policy import Compiler, read_documents

PODS, APPLICATIONS = 10_000, 100
ROUNDS, TRIPS, CONNECTIONS = 15, 400, 150
ADDED = 50
PORT = 7007
STATE = Path("/var/tmp")
NONE, ONE, MANY = "no policy", "one policy", f"{APPLICATIONS} policies, {PODS:,} pods"


def run() -> Result:
    """Round trips on a connection that stays, new connections a second, and times of changes."""
    return isolated(_measure)


def _measure() -> Result:
    result = Result("policy_cost")
    with tempfile.TemporaryDirectory(dir=STATE) as directory, Host(Path(directory)) as host:
        host.pools.add(ip_network("10.0.0.0/16"))
        client, server = host.add_pod("pod1").addresses[0], host.add_pod("pod2").addresses[0]
        with _echo("pod2", str(server)):
            added, tables = _changes(result, host, str(client), str(server))
            trips: dict[str, list[float]] = {what: [] for what in tables}
            connections: dict[str, list[float]] = {what: [] for what in tables}
            driver = PolicyDriver(TABLE)
            for number in range(ROUNDS):
                for what in sorted(tables, key=lambda what: (list(tables).index(what) + number) % len(tables)):
                    driver.replace(tables[what])
                    trips[what].append(_inside("pod1", lambda: _trips(str(server))))
                    connections[what].append(_inside("pod1", lambda: _connections(str(server))))
            driver.close()
        for measured, name, unit in (
            (trips, "round trips", "1/s"),
            (connections, "new connections", "1/s"),
            (added, "add a pod", "ms"),
        ):
            for what, samples in measured.items():
                result.add("fairway", f"{name}, {what}", samples, unit)
            for what in (ONE, MANY):
                pairs = zip(measured[what], measured[NONE], strict=True)
                result.ratios[f"{name} {what}/none"] = statistics.median(one / other for one, other in pairs)
        result.add("fairway", f"compile {MANY}", [_compiled()], "s")
        for pod in host.pods():
            host.remove_pod(pod.name)
    result.notes.append("two pods of one host; the round trips are of one byte over a connection that stays")
    result.notes.append("a ratio is the median of the ratios of runs side by side")
    result.notes.append("compile: documents that are read already, pod by pod; the rest as a command does it")
    return result


def _changes(
    result: Result, host: Host, client: str, server: str
) -> tuple[dict[str, list[float]], dict[str, PolicyTable]]:
    """What it takes to put each in force, and then to add a pod; the tables that each is in the kernel."""
    added: dict[str, list[float]] = {}
    tables: dict[str, PolicyTable] = {}
    for what, text in ((NONE, ""), (ONE, _policy(1)), (MANY, _many(client, server))):
        if text:
            started = time.perf_counter()
            host.policies.apply(text, what)
            took = time.perf_counter() - started
            result.add("fairway", f"apply {what}: read, compiled, kept, loaded", [took], "s")
        rules = host.policies.rules()
        tables[what] = rules.table if rules is not None else PolicyTable()
        added[what] = []
        for number in range(ADDED):
            started = time.perf_counter()
            host.add_pod(f"added{number}")
            added[what].append((time.perf_counter() - started) * 1e3)
        for number in range(ADDED):
            host.remove_pod(f"added{number}")
            host.wait_removed(f"added{number}")
    return added, tables


def _policy(application: int) -> str:
    """What two pods that talk need, and a policy for an application."""
    peer = (application + 1) % APPLICATIONS
    spec = {
        "podSelector": {"matchLabels": {"app": str(application)}},
        "ingress": [
            {"from": [{"podSelector": {"matchLabels": {"app": str(peer)}}}], "ports": [{"port": 80}, {"port": 443}]},
            {
                "from": [{"namespaceSelector": {}, "podSelector": {"matchLabels": {"app": "0"}}}],
                "ports": [{"port": PORT}],
            },
        ],
    }
    metadata = {"name": f"app{application}", "namespace": "default"}
    policy = {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": metadata, "spec": spec}
    pods = [_pod("pod1", 0), _pod("pod2", 1)] if application == 1 else []
    return "\n---\n".join(map(json.dumps, [policy, *pods]))


def _pod(name: str, application: int, address: str = "") -> dict[str, object]:
    metadata = {"name": name, "labels": {"app": str(application)}}
    return {"kind": "Pod", "metadata": metadata, **({"status": {"podIP": address}} if address else {})}


def _many(*taken: str) -> str:
    policies = [_policy(application) for application in range(APPLICATIONS)]
    base = ip_address("10.1.0.0")
    pods = [
        json.dumps(_pod(f"far{number}", number % APPLICATIONS, str(base + number))) for number in range(1, PODS + 1)
    ]
    assert not {str(base + number) for number in range(1, PODS + 1)} & set(taken)
    return "\n---\n".join([*policies, *pods])


def _compiled() -> float:
    """Seconds that the compiler takes for all of it."""
    documents = read_documents(_many(), "many")
    endpoints = [*documents.endpoints.values()]
    started = time.perf_counter()
    compiler = Compiler(documents.policies.values())
    for number, each in enumerate(endpoints):
        local = number < PODS // 100
        compiler.put(Endpoint(each.namespace, each.name, each.addresses, each.labels, each.ports, local))
    compiler.table()
    return time.perf_counter() - started


def _inside(namespace: str, work: Callable[[], float]) -> float:
    return namespaces.inside(namespace, work)


def _trips(server: str) -> float:
    with socket.create_connection((server, PORT)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        started = time.perf_counter()
        for _ in range(TRIPS):
            connection.send(b"x")
            connection.recv(1)
        return TRIPS / (time.perf_counter() - started)


def _connections(server: str) -> float:
    started = time.perf_counter()
    for _ in range(CONNECTIONS):
        with socket.create_connection((server, PORT)) as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # ends at once, by RST
    return CONNECTIONS / (time.perf_counter() - started)


@contextmanager
def _echo(namespace: str, address: str) -> Iterator[None]:
    """A server in a process of its own, one connection after the other."""
    listener = namespaces.inside(namespace, lambda: socket.create_server((address, PORT), backlog=512))
    child = os.fork()
    if child == 0:
        while True:
            connection, _ = listener.accept()
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            try:
                while data := connection.recv(1):
                    connection.send(data)
            except OSError:
                pass
            connection.close()
    listener.close()
    try:
        yield
    finally:
        os.kill(child, 9)
        os.waitpid(child, 0)
