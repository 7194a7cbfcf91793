"""The packet that is followed, and what is known of it at one hook of one host."""

from __future__ import annotations

from dataclasses import dataclass

from fairway.net.model.facts import IPAddress

PROTOCOLS = {"icmp": 1, "tcp": 6, "udp": 17, "icmpv6": 58}


@dataclass(frozen=True, slots=True)
class Packet:
    """The first packet of a new flow, or (`reply`) the answer to it. A port that is None is any free one."""

    source: IPAddress
    destination: IPAddress
    protocol: str  # "icmp" (echo; ICMPv6 for IPv6), "tcp" or "udp"
    source_port: int | None = None
    destination_port: int | None = None
    reply: bool = False
    discovery: str = ""  # it is this message of neighbour discovery instead, ICMPv6
    hidden: str = ""  # which of its addresses is not known: "saddr" or "daddr"

    @property
    def version(self) -> int:
        """Of IP."""
        return self.destination.version

    @property
    def message(self) -> str:
        """The type of the ICMP message that it is, as nftables names it."""
        return self.discovery or ("echo-reply" if self.reply else "echo-request")

    @property
    def number(self) -> int:
        """The protocol's number in the IP header."""
        return PROTOCOLS["icmpv6" if self.protocol == "icmp" and self.version == 6 else self.protocol]


@dataclass(slots=True)
class Passage:
    """A packet on its way through one host. Chains change `mark` and `state`; None: not known any more."""

    packet: Packet
    state: str | None  # of connection tracking, once that has seen it: new, established, untracked
    entering: str = ""
    leaving: str = ""
    mark: int | None = 0
    way_back: str | None = None  # the interface by which a route leads to its source; empty: none; None: not known
    seen: bool | None = False  # connection tracking has seen it (priority -200 of PREROUTING, OUTPUT); None: perhaps

    @property
    def connection(self) -> str | None:
        """What `ct state` reads now."""
        if self.state == "untracked" or self.seen:
            return self.state
        return None if self.seen is None else "invalid"
