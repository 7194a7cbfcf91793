"""Interfaces that end.

The kernel answers a request to take an interface away some 20 ms after the last one could find it: it goes on to wait
for its own readers, so that it can free what the interface was. Nothing that follows has to wait for that. So the
requests are made by threads of their own, and whoever wants an end looks for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from queue import SimpleQueue

from fairway.net.kernel import messages, namespaces
from fairway.net.kernel.netlink import Netlink

_AT_ONCE = 4
"""Requests that the kernel has not answered; the next one waits for one of them."""

_LOOK_S = 0.0002


class LinkEnder:
    """Ends interfaces of one namespace, for one thread."""

    def __init__(self, namespace: str) -> None:
        self._netlink = namespaces.inside(namespace, Netlink)
        self._idle: SimpleQueue[Netlink] = SimpleQueue()
        for _ in range(_AT_ONCE):
            self._idle.put(namespaces.inside(namespace, Netlink))
        self._threads = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="fairway-end")

    def close(self) -> None:
        """Return when the kernel is done with all of them."""
        self._threads.shutdown()
        for netlink in (self._netlink, *(self._idle.get() for _ in range(_AT_ONCE))):
            netlink.close()

    def end(self, indices: Sequence[int]) -> None:
        """Take the interfaces with those indices away, as one; return when there is none of them any more.

        By then they have no routes, neighbours or addresses, and their names are free. Where the kernel refuses, they
        are there when this returns: whoever looks for drift finds them.
        """
        answered = self._threads.submit(self._ask, indices)
        while any(map(self._netlink.name, indices)) and not wait([answered], _LOOK_S).done:
            pass

    def _ask(self, indices: Sequence[int]) -> None:
        netlink = self._idle.get()
        try:
            if len(indices) == 1:
                netlink.batch([messages.delete_link(index=indices[0])])
            elif indices:
                netlink.batch([messages.doom(index) for index in indices])
                netlink.batch([messages.delete_doomed()])
        finally:
            self._idle.put(netlink)
