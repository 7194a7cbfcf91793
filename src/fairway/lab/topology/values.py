"""The values that a lab's file may hold: each function converts what TOML gave, or raises Expected."""

from __future__ import annotations

import re
from collections.abc import Callable
from ipaddress import ip_address, ip_interface, ip_network
from typing import TypeVar

from fairway.net.model.facts import IPAddress, IPInterface, IPNetwork

MTU_MIN = 68  # RFC 791: what every IPv4 host must be able to forward
MTU_MIN_IPV6 = 1280  # RFC 8200 section 5
MTU_MAX = 65535
DELAY_MAX_MS = 60_000
RATE_MIN_BPS = 1_000
RATE_MAX_BPS = 100_000_000_000

_QUANTITY = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([a-z%]+)", re.IGNORECASE)
_MILLISECONDS = {"us": 0.001, "ms": 1.0, "s": 1000.0}
_BITS_A_SECOND = {"bit": 1, "kbit": 1_000, "mbit": 1_000_000, "gbit": 1_000_000_000}
_SHOWN = 60  # characters of a wrong value that an error repeats

_RESERVED: tuple[tuple[IPNetwork, str], ...] = tuple(
    (ip_network(network), why)
    for network, why in (
        ("0.0.0.0/8", "which means this host"),
        ("127.0.0.0/8", "the loopback addresses"),
        ("169.254.0.0/16", "the link-local addresses, where the gateway of every pod is"),
        ("224.0.0.0/4", "the multicast addresses"),
        ("255.255.255.255/32", "the broadcast address"),
        ("::/127", "the unspecified and the loopback address"),
        ("::ffff:0:0/96", "IPv4 addresses in IPv6 form"),
        ("fe80::/10", "the link-local addresses, where the gateway of every pod is"),
        ("ff00::/8", "the multicast addresses"),
    )
)

T = TypeVar("T")


class Expected(Exception):  # noqa: N818 - it reads as what it says: expected a duration such as 10ms
    """A value is not what it has to be; `what` says what was expected."""

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.what = what


def text(value: object) -> str:
    """A string that is not empty."""
    if not isinstance(value, str) or not value:
        raise Expected("a string that is not empty")
    return value


def flag(value: object) -> bool:
    """True or false."""
    if not isinstance(value, bool):
        raise Expected("true or false")
    return value


def one_of(*choices: str) -> Callable[[object], str]:
    """One of the strings `choices`."""

    def choose(value: object) -> str:
        if value not in choices:
            raise Expected(" or ".join(f'"{choice}"' for choice in choices))
        return str(value)

    return choose


def mtu(value: object) -> int:
    """The largest packet a link carries, in bytes."""
    if type(value) is not int or not MTU_MIN <= value <= MTU_MAX:
        raise Expected(f"a whole number of bytes from {MTU_MIN} to {MTU_MAX}")
    return value


def milliseconds(value: object) -> float:
    """A duration with its unit, such as 10ms, at most a minute."""
    what = f"a duration from 0ms to {DELAY_MAX_MS // 1000}s, such as 200us, 10ms or 1.5s"
    return _quantity(value, _MILLISECONDS, 0, DELAY_MAX_MS, what)


def share(value: object) -> float:
    """A percentage such as 0.5%, as a share from 0 to 1."""
    return _quantity(value, {"%": 1}, 0, 100, "a percentage from 0% to 100%, such as 0.5%") / 100


def bits_a_second(value: object) -> int:
    """A rate with its unit, such as 100mbit."""
    what = "a rate from 1kbit to 100gbit, such as 500kbit, 100mbit or 1.5gbit"
    return round(_quantity(value, _BITS_A_SECOND, RATE_MIN_BPS, RATE_MAX_BPS, what))


def address(value: object) -> IPAddress:
    """An address that a host may have, without prefix length."""
    parsed = _parsed(ip_address, value, "an address without prefix length, such as 10.0.1.2 or fd00:1::2")
    _not_reserved(parsed)
    return parsed


def interface(value: object) -> IPInterface:
    """An address that a host may have, with the prefix length of its subnet."""
    what = "an address with the prefix length of its subnet, such as 10.0.0.1/24 or fd00::1/64"
    if not isinstance(value, str) or "/" not in value:
        raise Expected(what)
    parsed = _parsed(ip_interface, value, what)
    _not_reserved(parsed.ip)
    subnet = parsed.network
    if subnet.prefixlen <= subnet.max_prefixlen - 2:
        if parsed.ip == subnet.network_address:
            raise Expected(f"an address of a host, not that of the subnet {subnet} itself")
        if parsed.version == 4 and parsed.ip == subnet.broadcast_address:
            raise Expected(f"an address of a host, not the broadcast address of {subnet}")
    return parsed


def network(value: object) -> IPNetwork:
    """Any network, the default one 0.0.0.0/0 and ::/0 among them; bits of the host are zero."""
    what = "a network, such as 10.0.1.0/24 or fd00:1::/64"
    if not isinstance(value, str) or "/" not in value:
        raise Expected(what)
    loose = _parsed(ip_interface, value, what)
    if loose.ip != loose.network.network_address:
        raise Expected(f"a network without bits of a host, such as {loose.network}")
    return loose.network


def pool(value: object) -> IPNetwork:
    """A network whose addresses pods may have."""
    parsed = network(value)
    for reserved, why in _RESERVED:
        if parsed.version == reserved.version and parsed.overlaps(reserved):
            raise Expected(f"a network without any of {reserved}, {why}")
    return parsed


def shown(value: object) -> str:
    """A wrong `value` as an error repeats it: short, in one line, whatever it is."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int) and abs(value) >= 10**_SHOWN:
        return "a far larger number"
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, list):
        return "a list"
    spelled = ascii(value) if isinstance(value, str) else str(value)
    return spelled if len(spelled) <= _SHOWN else f"{spelled[:_SHOWN]}..."


def _parsed(parse: Callable[[str], T], value: object, what: str) -> T:
    """`value`, a string without a scope such as %eth0, as `parse` understands it."""
    if not isinstance(value, str) or "%" in value:
        raise Expected(what)
    try:
        return parse(value)
    except ValueError:
        raise Expected(what) from None


def _not_reserved(parsed: IPAddress) -> None:
    for reserved, why in _RESERVED:
        if parsed in reserved:
            raise Expected(f"an address outside {reserved}, {why}")


def _quantity(value: object, units: dict[str, float] | dict[str, int], low: float, high: float, what: str) -> float:
    """The number in `value` times its unit, between `low` and `high`."""
    match = _QUANTITY.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None or match[2].lower() not in units:
        raise Expected(what)
    quantity = float(match[1]) * units[match[2].lower()]
    if not low <= quantity <= high:
        raise Expected(what)
    return quantity
