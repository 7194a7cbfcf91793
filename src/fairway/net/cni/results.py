"""Results: an attachment told in each version of CNI, behind what plugins before this one told (section 5)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fairway.net.cni.codes import CniError, Code
from fairway.net.cni.configuration import Configuration
from fairway.net.cni.versions import at_least
from fairway.net.model.pod import GATEWAY_MAC, GATEWAYS, Pod

_NEW_IN_1_1 = {
    "interfaces": frozenset({"mtu", "socketPath", "pciID"}),
    "routes": frozenset({"mtu", "advmss", "priority", "table", "scope"}),
}
_DEFAULT = {4: "0.0.0.0/0", 6: "::/0"}


def added(pod: Pod, mac: str, sandbox: str, configuration: Configuration) -> dict[str, Any]:
    """ADD's Result: the previous plugins' with the attachment's interfaces, addresses and routes behind.

    `mac` is the pod end's, `sandbox` the namespace's path as the runtime gave it.
    """
    previous = configuration.previous or {}
    before = _entries(previous, "interfaces")
    ips = [
        {
            "address": f"{address}/{address.max_prefixlen}",
            "gateway": str(_gateway(address.version)),
            "interface": len(before) + 1,
        }
        for address in pod.addresses
    ]
    versions = sorted({address.version for address in pod.addresses})
    routes = [{"dst": _DEFAULT[version], "gw": str(_gateway(version))} for version in versions]
    result = dict(previous) | {
        "interfaces": [
            *before,
            {"name": pod.link, "mac": GATEWAY_MAC, "mtu": pod.mtu},
            {"name": pod.interface, "mac": mac, "mtu": pod.mtu, "sandbox": sandbox},
        ],
        "ips": _entries(previous, "ips") + ips,
        "routes": _entries(previous, "routes") + (routes if pod.default_route else []),
        "dns": previous.get("dns") or dict(configuration.dns),
    }
    return in_version(result, configuration.version)


def in_version(result: Mapping[str, Any], version: str) -> dict[str, Any]:
    """The Result as that version has it: an address's `version` up to 0.4.0, no fields that came later."""
    told = {"cniVersion": version} | {key: value for key, value in result.items() if key != "cniVersion"}
    if not at_least(version, "1.1.0"):
        for key, new in _NEW_IN_1_1.items():
            told[key] = [{k: v for k, v in entry.items() if k not in new} for entry in _entries(result, key)]
    old = not at_least(version, "1.0.0")
    told["ips"] = [
        ({"version": "6" if ":" in str(entry.get("address")) else "4"} if old else {})
        | {key: value for key, value in entry.items() if key != "version"}
        for entry in _entries(result, "ips")
    ]
    return told


def addresses(result: Mapping[str, Any]) -> set[str]:
    """The addresses in a Result, without their prefix lengths."""
    return {str(entry.get("address", "")).partition("/")[0] for entry in _entries(result, "ips")}


def _gateway(version: int) -> object:
    return GATEWAYS[0] if version == 4 else GATEWAYS[1]


def _entries(result: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
    found = result.get(key) or []
    if not isinstance(found, list) or not all(isinstance(entry, dict) for entry in found):
        raise CniError(Code.INVALID_CONFIGURATION, f"prevResult.{key} is not a list of objects")
    return found
