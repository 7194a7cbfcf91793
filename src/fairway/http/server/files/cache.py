"""Values kept up to a number of bytes and of entries; the least recently used go first."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

from fairway.http.server.files.limits import ENTRY_BYTES, MAX_KEPT_BYTES, MAX_KEPT_ENTRIES

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Cache(Generic[K, V]):
    """A mapping of bounded cost: each value is kept with the bytes that its body has."""

    def __init__(self, max_bytes: int = MAX_KEPT_BYTES, max_entries: int = MAX_KEPT_ENTRIES) -> None:
        self._max_bytes = max_bytes
        self._max_entries = max_entries
        self._entries: OrderedDict[K, tuple[V, int]] = OrderedDict()
        self.cost = 0

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: K) -> V | None:
        """The value kept for `key`, which becomes the most recently used."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        self._entries.move_to_end(key)
        return entry[0]

    def put(self, key: K, value: V, body_bytes: int) -> None:
        """Keep `value`, instead of others if need be; a value beyond the whole bound is not kept."""
        self.drop(key)
        cost = body_bytes + ENTRY_BYTES
        if cost > self._max_bytes:
            return
        self._entries[key] = (value, cost)
        self.cost += cost
        while self.cost > self._max_bytes or len(self._entries) > self._max_entries:
            _, (_, dropped) = self._entries.popitem(last=False)
            self.cost -= dropped

    def drop(self, key: K) -> None:
        """Forget what is kept for `key`, if anything."""
        entry = self._entries.pop(key, None)
        if entry is not None:
            self.cost -= entry[1]
