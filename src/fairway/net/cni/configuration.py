"""The plugin's configuration as a runtime sends it: checked key by key, so that an error names the key and the mend."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from fairway.net.cni.codes import CniError, Code
from fairway.net.cni.versions import SUPPORTED

PLUGIN_TYPE = "fairway"
"""`type` in a configuration: what the executable is called."""

CAPABILITIES = ("ips", "mac")
"""What a runtime may ask for in `runtimeConfig`. Port mappings and bandwidth are for plugins after this one."""

VALID_ATTACHMENTS = ("cni.dev/valid-attachments", "cni.dev/attachments")
"""GC's list; the second is what libcni called it by mistake, and still sends beside the first."""

_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*")  # section 1, "Network configuration objects"
_MTU_MIN, _MTU_MAX = 68, 65535  # RFC 791; linux/if_ether.h
_MTU_MIN_WHY = "IPv4 needs 68 bytes, IPv6 1280"


@dataclass(frozen=True, slots=True)
class Configuration:
    """A checked configuration. What it does not say is empty or None."""

    version: str
    network: str
    mtu: int = 0
    default_route: bool = True
    pools: tuple[str, ...] = ()  # by their names; empty: those that are for everybody, or for this network
    dns: Mapping[str, Any] = field(default_factory=dict)
    args: Mapping[str, Any] = field(default_factory=dict)
    runtime: Mapping[str, Any] = field(default_factory=dict)
    previous: Mapping[str, Any] | None = None
    valid: frozenset[tuple[str, str]] | None = None  # of GC: container IDs and interface names
    text: str = ""  # as it was sent


def read_version(stdin: bytes) -> str:
    """The version that an answer is in, even to what is no configuration; "" if stdin does not say."""
    found = re.search(rb'"cniVersion"\s*:\s*"(\d+\.\d+\.\d+)"', stdin)
    return found[1].decode() if found else ""


def parse(stdin: bytes) -> Configuration:
    """The configuration on stdin; CniError if it is none, or not one of this plugin's."""
    document = _document(stdin)
    version = _text(document, "cniVersion")
    if version not in SUPPORTED:
        raise CniError(
            Code.INCOMPATIBLE_VERSION,
            f"cniVersion {version!r} is not supported" if version else "the configuration has no cniVersion",
            f"write one of {', '.join(SUPPORTED)}",
        )
    network = _text(document, "name")
    if not _NAME.fullmatch(network):
        wrong = f"the network's name {network!r} is not valid" if network else "the configuration has no name"
        raise CniError(Code.INVALID_CONFIGURATION, wrong, "use letters, digits and inner '_', '.', '-'")
    for key, value in document.items():
        _check_known(key, value)
    return Configuration(
        version=version,
        network=network,
        mtu=_mtu(document.get("mtu", 0)),
        default_route=_boolean(document, "defaultRoute", default=True),
        pools=_pools(document.get("pools", [])),
        dns=_object(document, "dns"),
        args=_object(document, "args"),
        runtime=_object(document, "runtimeConfig"),
        previous=_object(document, "prevResult") if document.get("prevResult") is not None else None,
        valid=_valid_attachments(document),
        text=stdin.decode(errors="replace"),
    )


def _document(stdin: bytes) -> dict[str, Any]:
    try:
        document = json.loads(stdin)
    except (ValueError, RecursionError) as error:
        wrong = f"the configuration is not JSON: {error}" if stdin.strip() else "there is no configuration on stdin"
        raise CniError(Code.UNDECODABLE, wrong) from None
    if not isinstance(document, dict):
        raise CniError(Code.UNDECODABLE, "the configuration is not a JSON object")
    return document


def _refuse(key: str, value: object, wanted: str) -> CniError:
    shown = json.dumps(value)
    return CniError(Code.INVALID_CONFIGURATION, f"{key} is {shown[:60]}, and should be {wanted}")


def _text(document: Mapping[str, Any], key: str) -> str:
    value = document.get(key, "")
    if not isinstance(value, str):
        raise _refuse(key, value, "a string")
    return value


def _boolean(document: Mapping[str, Any], key: str, *, default: bool) -> bool:
    value = document.get(key, default)
    if not isinstance(value, bool):
        raise _refuse(key, value, "true or false")
    return value


def _object(document: Mapping[str, Any], key: str) -> dict[str, Any]:
    value = document.get(key)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise _refuse(key, value, "an object")
    return value


def _mtu(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or (value and not _MTU_MIN <= value <= _MTU_MAX):
        raise _refuse("mtu", value, f"a number from {_MTU_MIN} to {_MTU_MAX}, or 0 for the uplink's ({_MTU_MIN_WHY})")
    return value


def _pools(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise _refuse("pools", value, "a list of pools' names")
    return tuple(value)


def _valid_attachments(document: Mapping[str, Any]) -> frozenset[tuple[str, str]] | None:
    key = next((key for key in VALID_ATTACHMENTS if document.get(key) is not None), None)
    if key is None:
        return None
    value = document[key]
    try:
        return frozenset((str(entry["containerID"]), str(entry["ifname"])) for entry in value)
    except (TypeError, KeyError):
        raise _refuse(key, value, "a list of objects with containerID and ifname") from None


def _anything(_: object) -> str:
    return ""


def _no_ipam(value: object) -> str:
    return "Fairway gives the addresses itself: take ipam away, and see: fairway pool" if value else ""


def _no_masquerade(value: object) -> str:
    return "whether a pool's traffic is masqueraded is said with the pool: fairway pool add" if value else ""


_KNOWN: dict[str, Callable[[object], str]] = {
    "ipam": _no_ipam,
    "ipMasq": _no_masquerade,
    **dict.fromkeys(("mtu", "defaultRoute", "pools"), _anything),
    **dict.fromkeys(
        ("cniVersion", "name", "type", "dns", "args", "capabilities", "runtimeConfig", "prevResult"), _anything
    ),
    # The list's own, which a configuration outside a list may have.
    **dict.fromkeys(("cniVersions", "disableCheck", "disableGC", "loadOnlyInlinedPlugins", "plugins"), _anything),
}
"""A known key, and what is wrong with its having a value; empty if nothing is."""


def _check_known(key: str, value: object) -> None:
    if key.startswith("cni.dev/"):
        return
    if key in _KNOWN:
        wrong = _KNOWN[key](value)
    else:
        near = difflib.get_close_matches(key, ("mtu", "defaultRoute", "pools", "dns", "args"), n=1)
        wrong = f"is it {near[0]}?" if near else "take it away; what there is: mtu, defaultRoute, pools, dns"
    if wrong:
        raise CniError(Code.UNSUPPORTED_FIELD, f"unsupported field {key}: {json.dumps(value)[:80]}", wrong)
