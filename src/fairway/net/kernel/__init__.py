"""The only room that touches the kernel: links, addresses, routes, namespaces, settings, nftables."""

from fairway.net.kernel.kernel import Kernel
from fairway.net.kernel.observe import View

__all__ = ["Kernel", "View"]
