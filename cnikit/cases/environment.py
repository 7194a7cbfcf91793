"""The variables that a runtime passes, and what becomes of a call that lacks one."""

from __future__ import annotations

from functools import partial

from cnikit import kernel
from cnikit.bed import Bed
from cnikit.case import Level, NotApplicableError, case, expect

_case = partial(case, "environment")


def _named(bed: Bed, command: str, variable: str) -> None:
    """The call without the variable fails with code 4 and names it."""
    container = bed.container()
    previous = {"cniVersion": bed.version, "ips": []} if command == "CHECK" else None
    error = bed.call(command, container, without=[variable], prevResult=previous).error_code(4)
    told = f"{error['msg']} {error.get('details', '')}"
    expect(variable in told, f"the error does not name {variable}: {told!r}")


@_case("SPEC 5, Error", since="0.4.0")
def add_without_container_id(bed: Bed) -> None:
    """ADD without CNI_CONTAINERID is refused with code 4, naming it."""
    _named(bed, "ADD", "CNI_CONTAINERID")


@_case("SPEC 5, Error", since="0.4.0")
def add_without_netns(bed: Bed) -> None:
    """ADD without CNI_NETNS is refused with code 4, naming it."""
    _named(bed, "ADD", "CNI_NETNS")


@_case("SPEC 5, Error", since="0.4.0")
def add_without_ifname(bed: Bed) -> None:
    """ADD without CNI_IFNAME is refused with code 4, naming it."""
    _named(bed, "ADD", "CNI_IFNAME")


@_case("SPEC 5, Error", since="0.4.0")
def del_without_container_id(bed: Bed) -> None:
    """DEL without CNI_CONTAINERID is refused with code 4, naming it."""
    _named(bed, "DEL", "CNI_CONTAINERID")


@_case("SPEC 5, Error", since="0.4.0")
def del_without_ifname(bed: Bed) -> None:
    """DEL without CNI_IFNAME is refused with code 4, naming it."""
    _named(bed, "DEL", "CNI_IFNAME")


@_case("SPEC 5, Error", since="0.4.0")
def check_without_netns(bed: Bed) -> None:
    """CHECK without CNI_NETNS is refused with code 4, naming it."""
    _named(bed, "CHECK", "CNI_NETNS")


@_case("SPEC 2, Parameters", since="0.4.0")
def container_ids_that_are_none(bed: Bed) -> None:
    """A container ID that does not start with a letter or digit, or has others than those and _ . -, is refused."""
    container = bed.container()
    for bad in ("-dash-first", "a/b", "a b", "../c"):
        reply = bed.call("ADD", container, environment={"CNI_CONTAINERID": bad})
        expect(reply.exit_code != 0, f"ADD with the container ID {bad!r} succeeded")
        reply.error()


@_case("SPEC 2, Parameters", since="0.4.0")
def interface_names_that_are_none(bed: Bed) -> None:
    """An interface name of 16 characters, '.', '..', or with '/', ':' or a space, is refused."""
    container = bed.container()
    for bad in ("sixteen-letters-", ".", "..", "a/b", "a:b", "a b"):
        reply = bed.call("ADD", container, environment={"CNI_IFNAME": bad})
        expect(reply.exit_code != 0, f"ADD with the interface name {bad!r} succeeded")
        reply.error()
    left = kernel.links(container.namespace) - {"lo"}
    expect(not left, f"refused ADDs left {sorted(left)} in the container")


@_case("SPEC 2, Parameters", Level.SHOULD)
def unknown_command(bed: Bed) -> None:
    """A CNI_COMMAND that does not exist is an error, told as JSON."""
    bed.call("FROBNICATE", bed.container()).error()


@_case("SPEC 2, Parameters", Level.SHOULD)
def no_command_prints_no_prose_on_stdout(bed: Bed) -> None:
    """Without CNI_COMMAND there is nothing on stdout but, at most, an error object."""
    reply = bed.call("", without=["CNI_COMMAND"])
    if reply.stdout.strip():
        reply.error()


@_case("SPEC 2, ADD", Level.ROBUST)
def without_cni_path(bed: Bed) -> None:
    """ADD and DEL work without CNI_PATH, which the SPEC says is optional, if the plugin calls no other."""
    if bed.profile.delegates:
        raise NotApplicableError("the plugin calls an IPAM plugin, which it finds by CNI_PATH")
    container = bed.container()
    bed.call("ADD", container, without=["CNI_PATH"]).succeeded()
    bed.call("DEL", container, without=["CNI_PATH"]).succeeded()


@_case("CONVENTIONS, CNI_ARGS", Level.SHOULD)
def arguments_of_kubernetes(bed: Bed) -> None:
    """The CNI_ARGS that Kubernetes' runtimes pass are accepted."""
    arguments = (
        "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web-0;K8S_POD_INFRA_CONTAINER_ID=abc;K8S_POD_UID=u"
    )
    bed.add(environment={"CNI_ARGS": arguments})
