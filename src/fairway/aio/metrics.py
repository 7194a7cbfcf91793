"""What servers counted, for Prometheus. Needs the package prometheus_client: `pip install 'fairway[metrics]'`.

Nothing is measured for it while connections run: a scrape adds up what the connections and their endpoint know.
Every series belongs to a server, none to a connection.
"""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Iterable, Iterator
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from fairway.quic import UsageError
from fairway.quic.endpoint.statistics import RTT_BOUNDS_S, SUMMED
from fairway.quic.statistics import KEYS

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry
    from prometheus_client.core import Metric

    from fairway.aio.server import Server

_PREFIX = "fairway_quic_"
_GAUGES = {"streams": KEYS["streams"], "bytes_in_flight": KEYS["bytes_in_flight"]}


def _prometheus(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise UsageError("metrics need prometheus_client: pip install 'fairway[metrics]'") from error


class QuicCollector:
    """A collector for a registry of prometheus_client: `registry.register(collector)`.

    Servers are added by a name, which becomes the label `server`.
    """

    def __init__(self) -> None:
        self._core = _prometheus("prometheus_client.core")
        self._servers: dict[str, Server[Any]] = {}

    def add(self, name: str, server: Server[Any]) -> None:
        """Report this server from now on."""
        self._servers[name] = server

    def remove(self, name: str) -> None:
        """Report this server no longer."""
        self._servers.pop(name, None)

    def describe(self) -> Iterable[Metric]:
        """No names in advance: a registry need not ask the servers for them."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """The metrics as they are now."""
        servers = list(self._servers.items())
        living = {name: [c.statistics() for c in server.connections] for name, server in servers}
        yield from self._endpoints(servers)
        gauge, counter = self._core.GaugeMetricFamily, self._core.CounterMetricFamily
        families = {name: gauge(_PREFIX + name, text, labels=["server"]) for name, text in _GAUGES.items()}
        families |= {name: counter(_PREFIX + name, KEYS[name], labels=["server"]) for name in SUMMED}
        for name, server in servers:
            for key in _GAUGES:
                families[key].add_metric([name], sum(figures[key] for figures in living[name]))
            for key, value in server.statistics.totals(living[name]).items():
                families[key].add_metric([name], value)
        yield from families.values()

    def _endpoints(self, servers: list[tuple[str, Server[Any]]]) -> Iterator[Metric]:
        """What endpoints count themselves."""
        gauge, counter = self._core.GaugeMetricFamily, self._core.CounterMetricFamily
        labels = ["server"]
        living = gauge(_PREFIX + "connections", "connections that are not over", labels=labels)
        pending = gauge(_PREFIX + "handshakes_pending", "connections whose handshake is not complete", labels=labels)
        accepted = counter(_PREFIX + "connections_accepted", "connections that were begun with", labels=labels)
        unheard = counter(_PREFIX + "connections_unheard", "of those, whose first packet did not open", labels=labels)
        refused = counter(
            _PREFIX + "connections_refused", "first packets that were not let in, by why", labels=["server", "reason"]
        )
        answered = counter(_PREFIX + "version_negotiations", "Version Negotiation packets sent", labels=labels)
        retried = counter(_PREFIX + "retries", "newcomers that were asked to prove their address", labels=labels)
        handshakes = counter(
            _PREFIX + "handshakes", "handshakes that were completed, or how they failed", labels=["server", "result"]
        )
        closed = counter(
            _PREFIX + "connections_closed",
            "connections that ended after their handshake, by how",
            labels=["server", "reason"],
        )
        rtt = self._core.HistogramMetricFamily(
            _PREFIX + "round_trip_seconds", "last smoothed round-trip time of connections that ended", labels=labels
        )
        for name, server in servers:
            counts = server.statistics
            living.add_metric([name], len(server.connections))
            pending.add_metric([name], server.pending)
            accepted.add_metric([name], counts.accepted)
            unheard.add_metric([name], counts.unheard)
            answered.add_metric([name], counts.version_negotiations)
            retried.add_metric([name], counts.retries)
            handshakes.add_metric([name, "completed"], counts.handshakes_completed)
            for family, table in (
                (refused, counts.refused),
                (handshakes, counts.handshakes_failed),
                (closed, counts.closed),
            ):
                for word, count in list(table.items()):
                    family.add_metric([name, word], count)
            bounds = [*map(str, RTT_BOUNDS_S), "+Inf"]
            buckets = list(zip(bounds, accumulate(counts.rtt_counts), strict=True))
            rtt.add_metric([name], buckets, counts.rtt_sum_s)
        yield from (living, pending, accepted, unheard, refused, answered, retried, handshakes, closed, rtt)


@contextlib.contextmanager
def serve_metrics(collector: QuicCollector, host: str, port: int) -> Iterator[int]:
    """Answer Prometheus at http://host:port/metrics from a thread; gives the port."""
    client = _prometheus("prometheus_client")
    registry: CollectorRegistry = client.CollectorRegistry()
    registry.register(collector)
    server, thread = client.start_http_server(port, host, registry)
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
