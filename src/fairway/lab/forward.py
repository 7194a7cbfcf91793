"""The FORWARD chain that a lab's node can be given: as Docker, or an administrator, leaves it on a real host."""

from __future__ import annotations

import errno

from fairway.net.kernel import Kernel
from fairway.net.model.errors import KernelError

_MARK = "FAIRWAY-LAB"
"""An empty chain beside FORWARD says that the table is the lab's (the library does not list a table's comment)."""


def set_forward_policy(kernel: Kernel, namespace: str, policy: str) -> int:
    """Give the namespace iptables' FORWARD chains with this policy; "accept" takes away those that a lab gave.

    Returns how many tables that made or took away.
    """
    changes = 0
    for family in ("ip", "ip6"):
        table = {"family": family, "name": "filter"}
        chain = {"family": family, "table": "filter"}
        hook = {"type": "filter", "hook": "forward", "prio": 0, "policy": "drop"}
        ours = _is_ours(kernel, namespace, family)
        if policy == "drop" and not ours:
            made = [
                {"table": table},
                {"chain": {**chain, "name": _MARK}},
                {"chain": {**chain, "name": "FORWARD", **hook}},
            ]
            kernel.filter.nft(namespace, [{"add": each} for each in made])
        elif policy != "drop" and ours:
            kernel.filter.nft(namespace, [{"delete": {"table": table}}])
        changes += ours != (policy == "drop")
    return changes


def _is_ours(kernel: Kernel, namespace: str, family: str) -> bool:
    try:
        listed = kernel.filter.nft(namespace, [{"list": {"table": {"family": family, "name": "filter"}}}])
    except KernelError as error:
        if error.errno == errno.ENOENT:
            return False
        raise
    return any(item.get("chain", {}).get("name") == _MARK for item in listed)
