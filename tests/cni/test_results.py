"""A Result is told in the version asked, behind what plugins before told."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

import pytest

from fairway.net.cni import results
from fairway.net.cni.codes import CniError
from fairway.net.cni.configuration import Configuration
from fairway.net.cni.versions import SUPPORTED
from fairway.net.model.pod import Pod

MAC = "0a:00:00:00:00:01"
SANDBOX = "/run/netns/c1"
POD = Pod("c1/eth0", (ip_address("10.0.0.1"), ip_address("fd00::1")), 1400, mac=MAC, outside="fwy-c1")


def told(version: str = "1.1.0", pod: Pod = POD, **keys: Any) -> dict[str, Any]:
    return results.added(pod, pod.mac, SANDBOX, Configuration(version, "pods", **keys))


def test_both_ends_are_told_and_the_inner_one_has_the_sandbox() -> None:
    outer, inner = told()["interfaces"]
    assert outer == {"name": "fwy-c1", "mac": "ee:ee:ee:ee:ee:ee", "mtu": 1400}
    assert inner == {"name": "eth0", "mac": MAC, "mtu": 1400, "sandbox": SANDBOX}


def test_addresses_are_hosts_own_with_the_gateway_that_every_pod_has() -> None:
    assert told()["ips"] == [
        {"address": "10.0.0.1/32", "gateway": "169.254.1.1", "interface": 1},
        {"address": "fd00::1/128", "gateway": "fe80::ecee:eeff:feee:eeee", "interface": 1},
    ]
    assert [route["dst"] for route in told()["routes"]] == ["0.0.0.0/0", "::/0"]


def test_a_pod_without_a_default_route_tells_none() -> None:
    assert told(pod=Pod("c1/net1", POD.addresses, 1400, "net1", MAC, "fwy-x", default_route=False))["routes"] == []


@pytest.mark.parametrize("version", SUPPORTED)
def test_fields_are_those_of_the_version(version: str) -> None:
    result = told(version)
    assert result["cniVersion"] == version
    assert [entry.get("version") for entry in result["ips"]] == (["4", "6"] if version < "1" else [None, None])
    assert all(("mtu" in entry) == (version == "1.1.0") for entry in result["interfaces"])


def test_what_plugins_before_told_comes_first_and_indices_are_right() -> None:
    before = {
        "cniVersion": "1.0.0",
        "interfaces": [{"name": "lo", "sandbox": SANDBOX}],
        "ips": [{"address": "127.0.0.1/8", "interface": 0}],
        "routes": [{"dst": "192.0.2.0/24"}],
        "dns": {"nameservers": ["192.0.2.53"]},
    }
    result = told(previous=before, dns={"nameservers": ["192.0.2.54"]})
    names = [entry["name"] for entry in result["interfaces"]]
    assert names == ["lo", "fwy-c1", "eth0"]
    assert [names[entry["interface"]] for entry in result["ips"]] == ["lo", "eth0", "eth0"]
    assert result["routes"][0] == {"dst": "192.0.2.0/24"}
    assert result["dns"] == {"nameservers": ["192.0.2.53"]}


def test_the_networks_name_servers_are_told_where_nobody_before_did() -> None:
    assert told(dns={"nameservers": ["192.0.2.54"]})["dns"] == {"nameservers": ["192.0.2.54"]}


@pytest.mark.parametrize("bad", [{"ips": "x"}, {"interfaces": [1]}, {"routes": {"dst": "x"}}])
def test_a_previous_result_that_is_none_is_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(CniError, match=f"prevResult.{next(iter(bad))}"):
        told(previous=bad)
