"""One host's pods: desired state on disk, the kernel brought to it."""

from fairway.net.agent.host import Host, Identity
from fairway.net.agent.store import Store

__all__ = ["Host", "Identity", "Store"]
