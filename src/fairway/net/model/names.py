"""Names: what a pod, a node, a link may be called, and what Fairway calls their interfaces."""

from __future__ import annotations

import hashlib
import re

from fairway.net.model.errors import UsageError

INTERFACE_PREFIX = "fwy-"
"""Every host end of a pod's veth pair begins so (an interface's name has at most 15 characters)."""

POD_INTERFACE = "eth0"
"""What a pod's own interface is called inside the pod."""

LONGEST_NAME = 63
_INTERFACE_NAME_MAX = 15  # IFNAMSIZ less the final NUL: linux/if.h
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


def host_interface(pod: str) -> str:
    """The host end of `pod`'s veth pair: readable where it fits, a hash of the name where it does not."""
    room = _INTERFACE_NAME_MAX - len(INTERFACE_PREFIX)
    short = pod if len(pod) <= room else hashlib.sha256(pod.encode()).hexdigest()[:room]
    return INTERFACE_PREFIX + short
