"""One host's pods: desired state on disk, the kernel brought to it."""

from fairway.net.agent.host import Host
from fairway.net.agent.identity import Identity
from fairway.net.agent.store import Store

__all__ = ["Host", "Identity", "Store"]
