"""What a runtime asks for: addresses and a MAC address, for plugins that say they can."""

from __future__ import annotations

from functools import partial

from cnikit import kernel
from cnikit.bed import Bed
from cnikit.case import Level, case, expect

_case = partial(case, "requests")
_MAC = "02:42:0a:01:02:03"


def _spare(bed: Bed) -> str:
    """An address that the plugin gives and that is free again, with its prefix length."""
    attachment = bed.add()
    bed.delete(attachment)
    return str(attachment.result["ips"][0]["address"])


@_case("CONVENTIONS, ips", Level.SHOULD)
def ips_by_capability(bed: Bed) -> None:
    """An address in runtimeConfig.ips is the one that the container gets."""
    bed.require_capability("ips")
    wanted = _spare(bed)
    attachment = bed.add(runtimeConfig={"ips": [wanted]})
    expect(attachment.address == wanted.split("/")[0], f"asked for {wanted}, got {attachment.address}")
    expect(kernel.reaches(attachment.address), f"{attachment.address} does not answer")


@_case("CONVENTIONS, ips", Level.SHOULD)
def ips_by_args(bed: Bed) -> None:
    """An address in args.cni.ips is the one that the container gets."""
    bed.require_capability("ips")
    wanted = _spare(bed).split("/")[0]
    attachment = bed.add(args={"cni": {"ips": [wanted]}})
    expect(attachment.address == wanted, f"asked for {wanted}, got {attachment.address}")


@_case("CONVENTIONS, CNI_ARGS", Level.SHOULD)
def ip_by_cni_args(bed: Bed) -> None:
    """An address in CNI_ARGS as IP= is the one that the container gets."""
    bed.require_capability("ips")
    wanted = _spare(bed).split("/")[0]
    attachment = bed.add(environment={"CNI_ARGS": f"IgnoreUnknown=1;IP={wanted}"})
    expect(attachment.address == wanted, f"asked for {wanted}, got {attachment.address}")


@_case("CONVENTIONS, ips", Level.ROBUST)
def taken_address_is_refused(bed: Bed) -> None:
    """An address that another container has is refused, and that container keeps it."""
    bed.require_capability("ips")
    holder = bed.add()
    container = bed.container()
    bed.call("ADD", container, runtimeConfig={"ips": [holder.result["ips"][0]["address"]]}).error()
    expect(kernel.reaches(holder.address), "the holder's address does not answer any more")


@_case("CONVENTIONS, ips", Level.ROBUST)
def words_that_are_no_address_are_refused(bed: Bed) -> None:
    """A requested address that is none is refused with an error object."""
    bed.require_capability("ips")
    bed.call("ADD", bed.container(), runtimeConfig={"ips": ["10.300.0.1/24"]}).error()
    bed.call("ADD", bed.container(), runtimeConfig={"ips": "10.0.0.1"}).error()


@_case("CONVENTIONS, mac", Level.SHOULD)
def mac_by_capability(bed: Bed) -> None:
    """The address in runtimeConfig.mac is the interface's, and the Result says so."""
    bed.require_capability("mac")
    attachment = bed.add(runtimeConfig={"mac": _MAC})
    real = (kernel.link("eth0", attachment.container.namespace) or {}).get("address")
    expect(real == _MAC, f"asked for {_MAC}, and the interface has {real}")
    told = [entry.get("mac") for entry in attachment.result["interfaces"] if entry.get("sandbox")]
    expect(told == [_MAC], f"the Result says {told}")
    expect(kernel.reaches(attachment.address), f"{attachment.address} does not answer")
