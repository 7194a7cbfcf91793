"""The FORWARD chain that a lab's node can be given: as Docker, or an administrator, leaves it on a real host."""

from __future__ import annotations

import errno

from fairway.net.kernel import Kernel
from fairway.net.model.errors import KernelError

_COMMENT = "of a Fairway lab"


def set_forward_policy(kernel: Kernel, namespace: str, policy: str) -> None:
    """Give the namespace iptables' FORWARD chains with this policy; "accept" takes away those that a lab gave."""
    for family in ("ip", "ip6"):
        table = {"family": family, "name": "filter"}
        chain = {"family": family, "table": "filter", "name": "FORWARD"}
        hook = {"type": "filter", "hook": "forward", "prio": 0, "policy": "drop"}
        ours = _is_ours(kernel, namespace, family)
        if policy == "drop" and not ours:
            kernel.nft(
                namespace, [{"add": {"table": {**table, "comment": _COMMENT}}}, {"add": {"chain": chain | hook}}]
            )
        elif policy != "drop" and ours:
            kernel.nft(namespace, [{"delete": {"table": table}}])


def _is_ours(kernel: Kernel, namespace: str, family: str) -> bool:
    try:
        listed = kernel.nft(namespace, [{"list": {"table": {"family": family, "name": "filter"}}}])
    except KernelError as error:
        if error.errno == errno.ENOENT:
            return False
        raise
    return any(item.get("table", {}).get("comment") == _COMMENT for item in listed)
