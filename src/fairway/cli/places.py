"""Names on the command line, and the namespaces they stand for: members of labs, this host's pods, this host itself."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address

from fairway.cli.host import has_state, lab_node, this_host
from fairway.lab import rootless
from fairway.lab.directory import node_environment
from fairway.net.model.errors import UsageError
from fairway.net.model.facts import HERE, IPAddress

HOST = "host"
"""What this host's own pods are qualified by, and what it is itself called."""


@dataclass(frozen=True, slots=True)
class Place:
    """Somebody who can send: `owner` is a lab's name, or HOST."""

    owner: str
    name: str
    namespace: str
    addresses: tuple[IPAddress, ...]
    environment: Mapping[str, str] = field(default_factory=dict, hash=False)
    """By what a command that runs there knows which host it is on."""

    @property
    def qualified(self) -> str:
        """The name that nobody else has."""
        return f"{self.owner}/{self.name}"


def enter_labs() -> None:
    """Without root, move to where this user's labs are, if there are any; before anything else is done."""
    rootless.enter(create=False)


def find_place(name: str) -> Place:
    """The place called NAME or OWNER/NAME; an error if there is none, or several."""
    owner, _, short = name.rpartition("/")
    known = list(places(owner))
    found = [place for place in known if place.name == short]
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(place.qualified for place in found)
        raise UsageError(f"{name} is the name of several: {names}", mend=f"say which: {found[0].qualified}")
    if name == HOST and _host_is_ours():
        return Place(HOST, HOST, HERE, ())
    if not rootless.privileged():
        raise UsageError(f"there is no pod or node {name!r} of yours", mend="a host's own pods need root")
    close = difflib.get_close_matches(short, [place.name for place in known], n=3)
    raise UsageError(
        f"there is no pod or node {name!r}",
        mend=f"did you mean {' or '.join(close)}?" if close else "see: fairway ls, and on a host: fairway pod ls",
    )


def places(owner: str = "") -> Iterator[Place]:
    """Every place, or those of one lab or of this host."""
    if owner != HOST:
        from fairway import lab

        for each in lab.running():
            if owner in ("", each.name):
                for node in each.nodes():
                    environment = {} if node.router else node_environment(each.name, node.name)
                    yield Place(each.name, node.name, node.namespace, node.addresses, environment)
                for pod in each.pods():
                    yield Place(each.name, pod.name, pod.namespace, pod.addresses)
    everywhere = owner == "" and lab_node() is None  # in a node, its pods are the lab's already
    if (owner == HOST or everywhere) and _host_is_ours() and has_state():
        with this_host() as host:
            for own in host.call("pod.ls")["pods"]:
                namespace = own["namespace"] or own["path"]  # a runtime's has a path only
                yield Place(HOST, own["name"], namespace, tuple(map(ip_address, own["addresses"])))


def _host_is_ours() -> bool:
    return rootless.privileged() and not rootless.entered()
