"""One call: its variables and configuration, checked."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_interface
from typing import Any

from fairway.net.cni.codes import CniError, Code
from fairway.net.cni.configuration import Configuration
from fairway.net.model.facts import IPAddress

COMMANDS = ("ADD", "DEL", "CHECK", "GC", "STATUS", "VERSION")

_REQUIRED: Mapping[str, tuple[str, ...]] = {
    "ADD": ("CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"),
    "CHECK": ("CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"),
    "DEL": ("CNI_CONTAINERID", "CNI_IFNAME"),
}
"""Section 2, "CNI operations". Go's plugins ask for CNI_PATH as well, which the SPEC says is optional."""

_CONTAINER_ID = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*")
_LONGEST_INTERFACE = 15  # IFNAMSIZ less the final NUL: linux/if.h


@dataclass(frozen=True, slots=True)
class Call:
    """A call's variables. Those that its command does not need may be empty."""

    command: str
    container: str
    namespace: str
    interface: str
    args: Mapping[str, str]
    trace: str = ""  # W3C trace context, as libcni hands it on


def parse(environment: Mapping[str, str]) -> Call:
    """The call that the variables say; CniError that names the variable if they do not."""
    command = environment.get("CNI_COMMAND", "")
    if command not in COMMANDS:
        wrong = f"CNI_COMMAND is {command!r}" if command else "CNI_COMMAND is not set"
        raise CniError(Code.INVALID_ENVIRONMENT, wrong, f"it is one of {', '.join(COMMANDS)}")
    missing = [name for name in _REQUIRED.get(command, ()) if not environment.get(name)]
    if missing:
        raise CniError(Code.INVALID_ENVIRONMENT, f"{command} needs {', '.join(missing)}")
    container, interface = environment.get("CNI_CONTAINERID", ""), environment.get("CNI_IFNAME", "")
    if "CNI_CONTAINERID" in _REQUIRED.get(command, ()):
        _check(container, interface)
    trace = environment.get("TRACEPARENT", "")
    return Call(command, container, environment.get("CNI_NETNS", ""), interface, _args(environment), trace)


def _check(container: str, interface: str) -> None:
    if not _CONTAINER_ID.fullmatch(container):
        raise CniError(Code.INVALID_ENVIRONMENT, f"CNI_CONTAINERID {container!r} is not a container's ID")
    too_long = len(interface.encode()) > _LONGEST_INTERFACE
    if too_long or interface in (".", "..") or re.search(r"[/:\s%]", interface):
        raise CniError(Code.INVALID_ENVIRONMENT, f"CNI_IFNAME {interface!r} is not an interface's name")


def _args(environment: Mapping[str, str]) -> dict[str, str]:
    """CNI_ARGS, `KEY=VALUE;KEY=VALUE`. What has no '=' is left out: the variable is deprecated, and has no errors."""
    pairs = (pair.partition("=") for pair in environment.get("CNI_ARGS", "").split(";"))
    return {key: value for key, separator, value in pairs if separator}


def wanted_addresses(call: Call, configuration: Configuration) -> tuple[IPAddress, ...]:
    """The addresses that the runtime asks for: by capability, else in `args`, else in CNI_ARGS."""
    for where, value in (
        ("runtimeConfig.ips", configuration.runtime.get("ips")),
        ("args.cni.ips", _cni_args(configuration).get("ips")),
        ("IP in CNI_ARGS", [part for part in call.args.get("IP", "").split(",") if part]),
    ):
        if value:
            return tuple(_address(where, entry) for entry in _listed(where, value))
    return ()


def wanted_mac(call: Call, configuration: Configuration) -> str:
    """The link-layer address that the runtime asks for, or ""."""
    for where, value in (
        ("runtimeConfig.mac", configuration.runtime.get("mac")),
        ("args.cni.mac", _cni_args(configuration).get("mac")),
        ("MAC in CNI_ARGS", call.args.get("MAC")),
    ):
        if value:
            if not isinstance(value, str):
                raise CniError(Code.INVALID_CONFIGURATION, f"{where} is {value!r}, and should be a string")
            return value
    return ""


def labels(configuration: Configuration) -> dict[str, str]:
    """The labels in `args.cni.labels`; what is none is left out, as `args` are for whoever understands them."""
    listed = _cni_args(configuration).get("labels")
    entries = listed if isinstance(listed, list) else []
    pairs = ((entry.get("key"), entry.get("value")) for entry in entries if isinstance(entry, dict))
    return {key: value for key, value in pairs if isinstance(key, str) and isinstance(value, str)}


def _cni_args(configuration: Configuration) -> Mapping[str, Any]:
    found = configuration.args.get("cni")
    return found if isinstance(found, dict) else {}


def _listed(where: str, value: object) -> list[object]:
    if not isinstance(value, list):
        raise CniError(Code.INVALID_CONFIGURATION, f"{where} is {value!r}, and should be a list of addresses")
    return value


def _address(where: str, entry: object) -> IPAddress:
    # A prefix length may follow, as host-local has it; on a routed network there is nothing that it could say.
    try:
        if isinstance(entry, str):
            return ip_interface(entry).ip
    except ValueError:
        pass
    raise CniError(Code.INVALID_CONFIGURATION, f"{where}: {entry!r} is not an address", "write it like 10.0.1.2")
