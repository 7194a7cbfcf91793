"""This node's standing in its network: its certificate and the renewal of it, and whose certificates are revoked."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from fairway.net.agent.log import say
from fairway.net.agent.peers import security
from fairway.net.agent.peers.joining import renew
from fairway.net.enrolment import Authority, Credentials, Membership, RevocationList, request
from fairway.net.model.errors import FairwayError
from fairway.tls import ClientConfig

_RETRY_S = 300.0


class Standing:
    """What connections stand on. `credentials` are the newest."""

    def __init__(self, membership: Membership, authority: Authority) -> None:
        self.credentials: Credentials = membership.credentials()
        self._caller: tuple[Credentials, ClientConfig] | None = None
        self._membership = membership
        self._authority = authority
        self._list: RevocationList | None = None
        self._not_before_s = float("-inf")

    @property
    def caller(self) -> ClientConfig:
        """What this node calls others with: made once for each certificate, as all connections share it."""
        if self._caller is None or self._caller[0] is not self.credentials:
            self._caller = self.credentials, security.client_config(self.credentials, security.ROUTES)
        return self._caller[1]

    def located(self, endpoints: Iterable[str]) -> None:
        """Where this node is: if the authority is here, those who join from now on are told."""
        if self._authority.here:
            self._authority.set_endpoints(list(endpoints))

    def stored(self) -> RevocationList | None:
        """The newest list that is on disk; the authority makes its own anew, without what has expired."""
        return (
            self._authority.revocations(datetime.now(UTC)) if self._authority.here else self._membership.revocations()
        )

    def news(self) -> RevocationList | None:
        """What the authority, if it is here, has revoked since: by a command, in another process."""
        known = 0 if self._list is None else self._list.number
        if not self._authority.here or self._authority.list_number <= known:
            return None
        return self._authority.revocations(datetime.now(UTC))

    def verify(self, signed: bytes) -> RevocationList:
        """A list that a peer told; `FairwayError` if it is not the authority's."""
        return RevocationList.verify(signed, self.credentials.authority)

    def adopt(self, revocations: RevocationList) -> bool:
        """Go by that list from now on; False if it is not newer."""
        if self._list is not None and revocations.number <= self._list.number:
            return False
        self._list = revocations
        try:
            self._membership.keep_revocations(revocations)
        except FairwayError as error:
            say("revocation list not kept", level="warning", why=error.message, mend=error.mend)
        return True

    def revoked(self, serial: int) -> bool:
        """Whether the certificate of that serial number is."""
        return self._list is not None and serial in self._list.serials

    def renewal_due(self, now: datetime, clock_s: float) -> bool:
        """Whether it is time for the next certificate; true again only a while later, if that fails."""
        early = self.credentials.certificate.not_valid_before_utc > now  # it was granted while a clock was ahead
        if (self.credentials.renew_at > now and not early) or clock_s < self._not_before_s:
            return False
        self._not_before_s = clock_s + _RETRY_S
        return True

    async def renew(self, places: Sequence[tuple[str, int]]) -> bool:
        """Have the next certificate from the authority, which is here or at one of `places`; whether that worked."""
        try:
            if self._authority.here:
                node, key = self.credentials.permit.node, self._membership.pending_key()
                now = datetime.now(UTC)
                granted = self._authority.enrol(node, request(key, node), now)
                self.credentials = self._membership.accept(granted, key, node, now)
            else:
                self.credentials = await renew(self._membership, places)
        except FairwayError as error:
            ends = self.credentials.expires.isoformat()
            say("certificate not renewed", level="warning", ends=ends, why=error.message, mend=error.mend)
            return False
        say("certificate renewed", ends=self.credentials.expires.isoformat())
        return True
