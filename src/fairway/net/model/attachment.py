"""Attachments: pods in namespaces that a container runtime made; what it asks for, and what is known of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from fairway.net.model.facts import IPAddress

_MARK = "fairway attachment"
_ALIAS_MAX = 255  # IFALIASZ less the final NUL: linux/if.h


@dataclass(frozen=True, slots=True)
class GivenNamespace:
    """A namespace that a runtime made. Its path may be gone, or lead elsewhere, later; the rest says which it was.

    Inodes are used again, and after a reboot everything is: `boot` says of which boot of the machine this is.
    """

    path: str
    device: int = 0
    inode: int = 0
    boot: str = ""


@dataclass(frozen=True, slots=True)
class Kubernetes:
    """What is known of the Kubernetes pod that an interface is for; all empty where there is no Kubernetes."""

    namespace: str = ""
    pod: str = ""
    labels: Mapping[str, str] = field(default_factory=dict, hash=False)
    annotations: Mapping[str, str] = field(default_factory=dict, hash=False)


@dataclass(frozen=True, slots=True)
class Attachment:
    """What makes a pod a runtime's. Its key is (container, interface); the interface is in the pod."""

    container: str
    network: str
    namespace: GivenNamespace
    kubernetes: Kubernetes = Kubernetes()


@dataclass(frozen=True, slots=True)
class AttachRequest:
    """A runtime's wish: an interface in the namespace at `namespace`. What is empty or 0 is Fairway's to choose."""

    container: str
    namespace: str  # a path: /run/netns/cni-..., /proc/PID/ns/net
    interface: str = "eth0"
    network: str = ""
    addresses: tuple[IPAddress, ...] = ()
    versions: tuple[int, ...] = ()  # of IP
    pools: tuple[str, ...] = ()  # their names
    sticky: str = ""  # who gives the same words gets the same addresses again
    mac: str = ""
    mtu: int = 0
    default_route: bool = True
    kubernetes: Kubernetes = Kubernetes()
    config: str = ""  # kept as it is, for whoever asked


def attachment_name(container: str, interface: str) -> str:
    """What the pod of an attachment is called; no pod of Fairway's own can be called so."""
    return f"{container}/{interface}"


def attachment_mark(attachment: Attachment, interface: str) -> str:
    """The alias of both ends of the attachment's link: enough to know it by when all else is lost.

    The last words are left out where there is no room for them, or they have blanks.
    """
    mark = f"{_MARK} {attachment.container} {interface}"
    for word in (attachment.network or "-", attachment.namespace.path):
        if len(f"{mark} {word}".encode()) > _ALIAS_MAX or any(map(str.isspace, word)):
            break
        mark = f"{mark} {word}"
    return mark


def read_mark(alias: str) -> tuple[Attachment, str] | None:
    """The attachment, and its interface, that an alias tells; None if it is no attachment's."""
    if not alias.startswith(f"{_MARK} "):
        return None
    container, interface, network, path, *_ = [*alias.split()[2:], "", "", "", ""]
    if not container or not interface:
        return None
    return Attachment(container, "" if network == "-" else network, GivenNamespace(path)), interface
