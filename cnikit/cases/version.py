"""VERSION: what the plugin says it speaks."""

from __future__ import annotations

import json
import re
from functools import partial

from cnikit.bed import Bed
from cnikit.case import Level, case, expect

_case = partial(case, "VERSION")
_SEMVER = re.compile(r"\d+\.\d+\.\d+")


def _request(bed: Bed) -> bytes:
    return json.dumps({"cniVersion": bed.version}).encode()


@_case("SPEC 2, VERSION")
def version_lists_what_it_speaks(bed: Bed) -> None:
    """VERSION answers with cniVersion and the list supportedVersions, and needs no variable but CNI_COMMAND."""
    found = bed.call("VERSION", stdin=_request(bed), without=["CNI_PATH"]).succeeded().object()
    expect(isinstance(found.get("cniVersion"), str), f"no cniVersion: {found}")
    listed = found.get("supportedVersions")
    expect(isinstance(listed, list) and bed.version in listed, f"supportedVersions lacks {bed.version}: {found}")
    bad = [one for one in listed or [] if not (isinstance(one, str) and _SEMVER.fullmatch(one))]
    expect(not bad, f"not a semantic version: {bad}")


@_case("SPEC 5, Version", since="1.0.0")
def version_answers_in_the_version_asked(bed: Bed) -> None:
    """VERSION's cniVersion is the one of the input."""
    found = bed.call("VERSION", stdin=_request(bed)).succeeded().object()
    expect(found.get("cniVersion") == bed.version, f"asked in {bed.version}, answered in {found.get('cniVersion')}")


@_case("SPEC 2, VERSION", Level.ROBUST)
def version_without_stdin(bed: Bed) -> None:
    """VERSION works with nothing on stdin, as older runtimes call it."""
    found = bed.call("VERSION", stdin=b"").succeeded().object()
    expect(bed.version in found.get("supportedVersions", []), f"supportedVersions lacks {bed.version}: {found}")


@_case("SPEC 2, VERSION", Level.ROBUST)
def version_ignores_the_rest_of_the_configuration(bed: Bed) -> None:
    """VERSION works with a whole network configuration on stdin."""
    found = bed.call("VERSION").succeeded().object()
    expect(bed.version in found.get("supportedVersions", []), f"supportedVersions lacks {bed.version}: {found}")
