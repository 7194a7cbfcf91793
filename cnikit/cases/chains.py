"""Chains: the standard plugins after the one under test, as a network list has them."""

from __future__ import annotations

import json
import subprocess
from functools import partial
from pathlib import Path
from typing import Any

from cnikit import kernel
from cnikit.bed import HOST_ADDRESS, NETWORK, OUTSIDE, Attachment, Bed, nothing_more_than
from cnikit.call import Reply, call
from cnikit.case import Level, NotApplicableError, case, expect

_case = partial(case, "chains", level=Level.SHOULD)
_SIZE = 100_000


class _Partner:
    """A standard plugin that follows in the chain, with its part of the list."""

    def __init__(self, bed: Bed, name: str, **config: Any) -> None:
        folders = [Path(folder) for folder in bed.profile.search_path.split(":")]
        found = next((folder / name for folder in folders if (folder / name).exists()), None)
        if found is None:
            raise NotApplicableError(f"there is no plugin {name} in {bed.profile.search_path}")
        asked = call(found, {"CNI_COMMAND": "VERSION", "CNI_PATH": bed.profile.search_path}, b'{"cniVersion":"1.0.0"}')
        if bed.version not in asked.succeeded().object()["supportedVersions"]:
            raise NotApplicableError(f"the {name} of this machine does not speak {bed.version}")
        self._bed = bed
        self._program = found
        self._config = {"cniVersion": bed.version, "name": NETWORK, "type": name} | config

    def call(self, command: str, attachment: Attachment) -> Reply:
        """Run it with the chain's Result so far."""
        variables = self._bed.environment(command, attachment.container)
        request = self._config | {"prevResult": attachment.result}
        return call(self._program, variables, json.dumps(request).encode())

    def add(self, attachment: Attachment) -> Attachment:
        """The attachment with the Result that this plugin hands on."""
        return Attachment(attachment.container, self.call("ADD", attachment).succeeded().object())


def _checked_and_deleted(bed: Bed, partner: _Partner, attachment: Attachment) -> None:
    """CHECK with the chain's Result, then DEL in reverse order, and nothing is left in the container.

    The partner's own CHECK is not asked for: what it lacks is not the fault of the plugin under test.
    """
    if bed.version != "0.3.1":
        bed.check(attachment).succeeded()
    partner.call("DEL", attachment).succeeded()
    bed.delete(attachment)
    have = kernel.links(attachment.container.namespace)
    expect(have == {"lo"}, f"after DEL the container has {sorted(have)}")


@_case("SPEC 3, Adding an attachment")
def followed_by_tuning(bed: Bed) -> None:
    """`tuning` after it sets the container's sysctl and MTU; CHECK succeeds; DEL of both leaves nothing."""
    partner = _Partner(bed, "tuning", sysctl={"net.core.somaxconn": "500"}, mtu=1400)
    attachment = partner.add(bed.add())
    namespace = attachment.container.namespace
    # Not by nsenter: /proc/sys/net shows the reader's own namespace.
    read = kernel.run("cat", "/proc/sys/net/core/somaxconn", namespace=namespace).strip()
    expect(read == "500", f"net.core.somaxconn is {read}")
    expect(kernel.reaches(attachment.address), f"{attachment.address} does not answer")
    _checked_and_deleted(bed, partner, attachment)


@_case("SPEC 3, Adding an attachment")
def followed_by_portmap(bed: Bed) -> None:
    """`portmap` after it maps a host's port: a client outside reaches the container by it; DEL leaves nothing."""
    mapping = {"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}
    partner = _Partner(bed, "portmap", snat=True, runtimeConfig={"portMappings": [mapping]})
    attachment = partner.add(bed.add())
    seen_as = f"{HOST_ADDRESS}:8080"
    there = attachment.container.namespace
    arrived = kernel.transfer(_SIZE, attachment.address, there, OUTSIDE, port=80, seen_as=seen_as)
    expect(arrived == _SIZE, f"{arrived} of {_SIZE} bytes arrived by {seen_as}")
    _checked_and_deleted(bed, partner, attachment)


@_case("SPEC 3, Adding an attachment")
def followed_by_bandwidth(bed: Bed) -> None:
    """`bandwidth` after it shapes the container's link; traffic still flows; DEL leaves nothing."""
    rates = {"ingressRate": 8_000_000, "ingressBurst": 8_000_000, "egressRate": 8_000_000, "egressBurst": 8_000_000}
    partner = _Partner(bed, "bandwidth", runtimeConfig={"bandwidth": rates})
    bed.delete(bed.add())
    before = kernel.snapshot()
    attachment = partner.add(bed.add())
    shaped = subprocess.run(["tc", "qdisc", "show"], capture_output=True, text=True).stdout
    expect("tbf" in shaped, f"no link of the host is shaped: {shaped}")
    expect(kernel.reaches(attachment.address), f"{attachment.address} does not answer")
    _checked_and_deleted(bed, partner, attachment)
    nothing_more_than(before)
