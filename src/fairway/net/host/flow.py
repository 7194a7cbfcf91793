"""Echoes at a steady pace, a thousand a second, and which came back: how long somebody was not to be reached."""

from __future__ import annotations

import os
import threading
import time

from fairway.net.host.ping import answered, echo, raw_socket
from fairway.net.kernel.namespaces import inside
from fairway.net.model.facts import IPAddress

PACE_S = 0.001
_LINGER_S = 0.3


class Flow:
    """Echoes out of a namespace to `target`, which may be changed; a thread's work while the `with` block lasts."""

    def __init__(self, namespace: str, target: IPAddress) -> None:
        self.target = target
        self._socket = inside(namespace, lambda: raw_socket(target.version))
        self._mark = os.urandom(8)
        self._sent: list[float] = []
        self._back: set[int] = set()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="fairway-flow", daemon=True)

    def __enter__(self) -> Flow:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        deadline = time.monotonic() + _LINGER_S
        while len(self._back) < len(self._sent) and time.monotonic() < deadline:
            self._take()
            time.sleep(PACE_S)
        self._socket.close()

    @property
    def sent(self) -> int:
        """How many went out."""
        return len(self._sent)

    @property
    def lost(self) -> int:
        """How many of them did not come back; to be asked when it has ended."""
        return len(self._sent) - len(self._back)

    def gap_ms(self) -> float:
        """The longest time from an echo that came back to the next that did, with lost ones between; 0: none lost."""
        gap, last, missing = 0.0, 0.0, False
        for number, at in enumerate(self._sent):
            if number not in self._back:
                missing = True
                continue
            if missing and last:
                gap = max(gap, at - last)
            last, missing = at, False
        if missing and last:
            gap = max(gap, self._sent[-1] - last)
        return gap * 1000

    def _run(self) -> None:
        due = time.monotonic()
        while not self._ended.is_set():
            self._send()
            self._take()
            due = max(due + PACE_S, time.monotonic() - PACE_S)  # what was missed while others ran is not made up for
            time.sleep(max(0.0, due - time.monotonic()))

    def _send(self) -> None:
        number = len(self._sent)
        self._sent.append(time.monotonic())
        try:
            self._socket.sendto(echo(self.target.version, self._mark, number), (str(self.target), 0))
        except OSError:
            return  # no way there: it is lost

    def _take(self) -> None:
        while True:
            try:
                data = self._socket.recv(256)
            except OSError:
                return
            number = answered(self.target.version, self._mark, data)
            if number is not None and number < len(self._sent):
                self._back.add(number)
