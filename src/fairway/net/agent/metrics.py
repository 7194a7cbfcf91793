"""What the agent counted, for Prometheus. Needs the package prometheus_client: `pip install 'fairway[metrics]'`."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Mapping
from typing import Any

from fairway.net.agent.protocol import Json
from fairway.net.model.errors import FairwayError


def check() -> None:
    """An error if the package is missing."""
    _prometheus("prometheus_client")


def render(status: Json, answered: Mapping[tuple[str, str], int], seconds: Mapping[str, float]) -> bytes:
    """The metrics in Prometheus' own text format: from the agent's status, as nothing is measured beforehand."""
    client = _prometheus("prometheus_client")
    registry = client.CollectorRegistry()
    registry.register(_Collector(status, answered, seconds))
    client.ProcessCollector(registry=registry)
    rendered: bytes = client.generate_latest(registry)
    return rendered


class _Collector:
    def __init__(self, status: Json, answered: Mapping[tuple[str, str], int], seconds: Mapping[str, float]) -> None:
        self._status = status
        self._answered = answered
        self._seconds = seconds

    def describe(self) -> Iterable[Any]:
        """No names in advance."""
        return ()

    def collect(self) -> Iterable[Any]:
        """The metrics as they are now."""
        core = _prometheus("prometheus_client.core")
        agent = self._status["agent"]
        gauge, counter = core.GaugeMetricFamily, core.CounterMetricFamily
        yield core.InfoMetricFamily("fairway_agent", "The agent that runs.", value={"version": agent["version"]})
        yield gauge("fairway_ready", "Whether the agent is ready to add pods.", value=int(agent["ready"]))
        pods = gauge("fairway_pods", "Pods of this host, by who made their namespaces.", labels=["source"])
        pods.add_metric(["fairway"], self._status["pods"] - self._status["attachments"])
        pods.add_metric(["runtime"], self._status["attachments"])
        yield pods
        yield from self._pools(gauge)
        repaired = counter("fairway_repairs", "What had drifted and was repaired, by kind.", labels=["kind"])
        for kind, count in agent["repaired"].items():
            repaired.add_metric([kind], count)
        yield repaired
        yield counter("fairway_repair_failures", "What had drifted and could not be repaired.", value=agent["failed"])
        yield counter("fairway_event_overruns", "Times that the kernel's messages were lost.", value=agent["overruns"])
        yield counter("fairway_looks", "Looks at everything.", value=agent["looks"])
        yield gauge("fairway_look_seconds", "How long the last look at everything took.", value=agent["last_look_s"])
        yield gauge("fairway_clients", "Clients that are connected.", value=agent["clients"])
        yield gauge("fairway_waiting", "Things that wait for their turn.", value=agent["waiting"])
        yield from self._calls(counter)

    def _pools(self, gauge: Any) -> Iterable[Any]:
        labels = ["pool", "network"]
        taken = gauge("fairway_pool_addresses_taken", "Addresses of a pool that pods have.", labels=labels)
        capacity = gauge("fairway_pool_addresses", "Addresses that a pool has for pods.", labels=labels)
        for pool in self._status["pools"]:
            taken.add_metric([pool["name"], pool["network"]], pool["taken"])
            capacity.add_metric([pool["name"], pool["network"]], pool["capacity"])
        return taken, capacity

    def _calls(self, counter: Any) -> Iterable[Any]:
        calls = counter("fairway_calls", "Calls that were answered.", labels=["call", "outcome"])
        for (call, outcome), count in self._answered.items():
            calls.add_metric([call, outcome], count)
        took = counter("fairway_call_seconds", "How long answered calls took, waiting included.", labels=["call"])
        for call, seconds in self._seconds.items():
            took.add_metric([call], seconds)
        return calls, took


def _prometheus(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError:
        raise FairwayError("metrics need prometheus_client", mend="pip install 'fairway[metrics]'") from None
