"""One host's pods: desired state on disk, the kernel brought to it."""

from fairway.net.host.drift import Scope
from fairway.net.host.host import Host
from fairway.net.host.identity import Identity
from fairway.net.host.store import Store

__all__ = ["Host", "Identity", "Scope", "Store"]
