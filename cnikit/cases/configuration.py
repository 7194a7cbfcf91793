"""The configuration on stdin: what is no JSON, no configuration, or in no version that the plugin speaks."""

from __future__ import annotations

import json
from functools import partial

from cnikit.bed import Bed
from cnikit.case import Level, case, expect

_case = partial(case, "configuration")


@_case("SPEC 5, Error", since="0.4.0")
def bad_json(bed: Bed) -> None:
    """A configuration that is no JSON is refused with code 6."""
    bed.call("ADD", bed.container(), stdin=b'{"cniVersion": "' + bed.version.encode() + b'", ').error_code(6)


@_case("SPEC 5, Error")
def bad_json_is_told_in_json(bed: Bed) -> None:
    """A configuration that is no JSON is refused with an error object, by DEL too."""
    for command in ("ADD", "DEL"):
        bed.call(command, bed.container(), stdin=b"not json").error()


@_case("SPEC 5, Error", Level.SHOULD)
def nothing_on_stdin(bed: Bed) -> None:
    """ADD with nothing on stdin is refused with an error object."""
    bed.call("ADD", bed.container(), stdin=b"").error()


@_case("SPEC 1, Configuration format", Level.SHOULD)
def json_that_is_no_object(bed: Bed) -> None:
    """A configuration that is JSON but no object is refused with an error object."""
    for text in (b"[]", b'"text"', b"7"):
        bed.call("ADD", bed.container(), stdin=text).error()


@_case("SPEC 5, Error")
def unsupported_version(bed: Bed) -> None:
    """A configuration in a version that the plugin does not speak is refused with code 1."""
    bed.call("ADD", bed.container(), cniVersion="99.0.0").error_code(1)


@_case("SPEC 1, Configuration format", since="1.0.0")
def configuration_without_a_name(bed: Bed) -> None:
    """A configuration without a network's name is refused."""
    bed.call("ADD", bed.container(), name=None).error()


@_case("SPEC 1, Configuration format", Level.SHOULD, since="1.0.0")
def network_name_that_is_none(bed: Bed) -> None:
    """A network's name that does not start with a letter or digit, or holds a slash, is refused."""
    for bad in ("-dash", "a/b", "../c"):
        reply = bed.call("ADD", bed.container(), name=bad)
        expect(reply.exit_code != 0, f"ADD to a network of the name {bad!r} succeeded")
        reply.error()


@_case("SPEC 1, Plugin configuration objects")
def args_that_are_not_understood(bed: Bed) -> None:
    """What a runtime puts into `args` and the plugin does not know is ignored."""
    bed.add(args={"labels": {"app": "web"}, "cni": {"labels": [{"key": "app", "value": "web"}]}, "x.org/y": [1]})


@_case("SPEC 5, Error")
def errors_say_their_version(bed: Bed) -> None:
    """An error object has the cniVersion of the configuration."""
    container = bed.container()
    error = bed.call("ADD", container, environment={"CNI_NETNS": "/run/netns/there-is-none"}).error()
    expect(error.get("cniVersion") == bed.version, f"cniVersion is {error.get('cniVersion')!r}: {json.dumps(error)}")


@_case("SPEC 5, Error")
def codes_of_its_own_begin_at_100(bed: Bed) -> None:
    """An error's code is one of the SPEC's, or 100 or more; below that all are reserved."""
    container = bed.container()
    error = bed.call("ADD", container, environment={"CNI_NETNS": "/run/netns/there-is-none"}).error()
    known = {1, 2, 3, 4, 5, 6, 7, 11, 50, 51}
    # libcni's own source gives 8 (invalid network namespace) and 999 (internal) as well, in every Go plugin's name.
    expect(error["code"] in known | {8} or error["code"] >= 100, f"the code {error['code']} is reserved: {error}")
