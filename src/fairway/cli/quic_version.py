"""The option --quic-version of the commands that speak QUIC."""

from __future__ import annotations

from typing import Any

import click


class QuicVersions(click.ParamType["tuple[int, ...]"]):
    """Versions in order of preference: 1; 2,1."""

    name = "V[,V]"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        """The numbers that packets carry."""
        from fairway.quic.packets.headers import VERSION_NAMES

        if isinstance(value, tuple):
            return value
        names = str(value).split(",")
        if len(set(names)) != len(names) or not set(names) <= VERSION_NAMES.keys():
            self.fail(f"{value!r}: give 1, 2, or both with the preferred one first, as in 2,1", param, ctx)
        return tuple(VERSION_NAMES[name] for name in names)


def version_name(number: int) -> int | str:
    """A version as people know it: 1 or 2."""
    from fairway.quic.packets.headers import VERSION_NAMES

    return next((int(name) for name, known in VERSION_NAMES.items() if known == number), f"{number:#x}")


for_clients = click.option(
    "--quic-version",
    type=QuicVersions(),
    help="QUIC versions to speak, to begin with the first: 1; 2,1. [1, and 2 if the server prefers it]",
)
for_servers = click.option(
    "--quic-version",
    type=QuicVersions(),
    help="QUIC versions to speak, the preferred one first: 1; 2,1. [what the client begins with]",
)
