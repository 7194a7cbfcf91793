"""What an application asks of a connection's paths: probe one, move to it, forget one."""

from __future__ import annotations

from fairway.quic.errors import UsageError
from fairway.quic.paths.migration import Migration, why_not_migrate
from fairway.quic.paths.path import Address, Local, Path
from fairway.quic.state import ConnectionState


class PathCalls:
    """The part of a connection that is about paths. `local` names one of the caller's sockets, None the first."""

    __slots__ = ()
    _state: ConnectionState
    _migration: Migration

    @property
    def path(self) -> Path:
        """The path in use: address, round-trip time, window."""
        return self._state.path

    @property
    def other_paths(self) -> tuple[Path, ...]:
        """Paths that are known and not in use."""
        return tuple(self._migration.others)

    @property
    def spare_connection_ids(self) -> int:
        """How many more paths the peer's connection IDs allow now."""
        return self._state.remote_ids.spare

    def probe_path(self, now: float, local: Local, address: Address | None = None) -> None:
        """Ask whether the peer answers on a new path; `PathValidated` or `PathFailed` tells (RFC 9000 section 9.1).

        `address` is another one of the server's: its preferred address. `UsageError` if a client may not move now.
        """
        self._check(address is not None)
        sequence = None if address is None else self._state.remote_ids.preferred
        self._migration.probe(local, address, sequence, now)

    def migrate(self, now: float, local: Local, address: Address | None = None) -> None:
        """Go on over this path, probed or not (section 9.2); `PathFailed` tells if the peer does not answer there."""
        self._check(address is not None or self._migration.find(local) is not None)
        self._migration.move(local, address, now)

    def forget_path(self, local: Local) -> None:
        """The socket goes away: nothing is sent on it any more. The path in use stays until the connection moves."""
        self._migration.forget(local)

    def _check(self, invited: bool) -> None:
        reason = why_not_migrate(self._state, invited=invited)
        if reason is not None:
            raise UsageError(f"the connection cannot move: {reason}")
