"""Names: what a pod, a node, a link may be called, and what Fairway calls their interfaces."""

from __future__ import annotations

import hashlib
import re

from fairway.net.model.errors import UsageError

INTERFACE_PREFIX = "fwy-"
"""Every host end of a pod's veth pair begins so (an interface's name has at most 15 characters)."""

TUNNEL_INTERFACE = "fairway-vxlan"
"""The device that carries pods' packets through routers that do not know the pods; no pod's link is called so."""

POD_INTERFACE = "eth0"
MOVED_INTERFACE = "eth1"
"""What a pod's own interface is called inside the pod."""

LONGEST_NAME = 63
_INTERFACE_NAME_MAX = 15  # IFNAMSIZ less the final NUL: linux/if.h
_CONTAINER_MAX = 128  # the alias of an interface has 255 characters, and says more than that
_IDENTIFIER = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*")  # CNI 1.1.0, "Parameters": CNI_CONTAINERID, and network names
_NAME = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?")


def check_name(what: str, name: str) -> str:
    """`name` itself, if it is an RFC 1123 label (a-z, 0-9, inner hyphens, at most 63 characters)."""
    if len(name) > LONGEST_NAME:
        raise UsageError(f"{what} name {name[:20]!r}... has {len(name)} characters; at most {LONGEST_NAME} fit")
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"{what} name {name!r} is not valid",
            mend="use lower-case letters, digits and inner hyphens, such as demo01",
        )
    return name


def host_interface(pod: str, attempt: int = 0) -> str:
    """The host end of `pod`'s veth pair: readable where it fits, a hash of the name where it does not.

    Where that name is somebody else's already, each further `attempt` gives another one, by a hash.
    """
    room = _INTERFACE_NAME_MAX - len(INTERFACE_PREFIX)
    if attempt == 0 and len(pod) <= room and "/" not in pod:
        return INTERFACE_PREFIX + pod
    salted = f"{pod}\0{attempt}" if attempt else pod
    return INTERFACE_PREFIX + hashlib.sha256(salted.encode()).hexdigest()[:room]


def check_interface(name: str) -> str:
    """`name` itself, if an interface can be called so: linux net/core/dev.c, dev_valid_name."""
    if not 0 < len(name.encode()) <= _INTERFACE_NAME_MAX or name in (".", "..") or re.search(r"[/:\s%]", name):
        raise UsageError(f"the interface name {name!r} is not valid", mend="use at most 15 characters, such as eth0")
    return name


def check_container(container: str) -> str:
    """`container` itself, if it is a container's ID as CNI has them: letters, digits, and inner "_", ".", "-"."""
    if len(container) > _CONTAINER_MAX:
        raise UsageError(f"the container ID {container[:20]!r}... is longer than {_CONTAINER_MAX} characters")
    return _check_identifier("container ID", container)


def check_network(network: str) -> str:
    """`network` itself, if it can be a network's name: as a container's ID, or empty for none."""
    return _check_identifier("network name", network) if network else ""


def _check_identifier(what: str, text: str) -> str:
    if not _IDENTIFIER.fullmatch(text):
        raise UsageError(f"the {what} {text!r} is not valid", mend="use letters, digits, and inner '_', '.' and '-'")
    return text
