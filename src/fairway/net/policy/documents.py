"""Documents of Kubernetes' shape, as values: NetworkPolicy, and what it speaks of, Namespace and Pod.

Where there is no Kubernetes, files of them say what its API would: which namespaces there are, how they are labelled,
and which pods other hosts have. What a policy needs is read; what it cannot mean is an error that names the place.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml

from fairway.net.model.errors import UsageError
from fairway.net.model.pod import parse_address
from fairway.net.model.policy import ContainerPort, Endpoint, Labels, Policy
from fairway.net.policy.fields import Field, labels, transport
from fairway.net.policy.rules import policy

MOST_BYTES = 16 << 20
"""How large a file of documents may be, also once its aliases are written out."""

_MOST_VALUES = 2_000_000  # one to every eight bytes: policies have fewer
_LONGEST_NAME, _LONGEST_NAMESPACE = 253, 63  # RFC 1123, as Kubernetes takes it for names and for namespaces
_NAME = re.compile(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?")
_NAMESPACE = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?")


@dataclass(slots=True)
class Documents:
    """What some files say, by kind."""

    policies: dict[tuple[str, str], Policy] = field(default_factory=dict)
    namespaces: dict[str, Labels] = field(default_factory=dict)
    endpoints: dict[tuple[str, str], Endpoint] = field(default_factory=dict)

    def read(self, content: Any, place: str) -> None:
        """Add one document; UsageError: what is wrong with it, at `place`."""
        document = Field(content, place, "")
        kind = document.required("kind").text()
        if kind not in _READERS:
            raise document["kind"].problem(f"expected one of {', '.join(_READERS)}, List; found {kind!r}")
        _READERS[kind](document, self)


def read_documents(text: str, file: str) -> Documents:
    """The documents of a YAML (or JSON) file; UsageError: what is wrong, with `file`, the document and the field."""
    documents = Documents()
    for number, content in enumerate(parse_documents(text, file), 1):
        documents.read(content, f"{file}: document {number}")
    return documents


def parse_documents(text: str, file: str) -> Iterator[Any]:
    """The documents of a YAML (or JSON) file as plain values, lists taken apart; UsageError: it is no YAML."""
    if len(text) > MOST_BYTES:
        raise UsageError(f"{file}: larger than {MOST_BYTES >> 20} MiB", mend="split it")
    try:
        found = list(yaml.load_all(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark is not None else ""
        raise UsageError(f"{file}{line}: not valid YAML: {getattr(error, 'problem', None) or error}") from None
    except RecursionError:
        raise UsageError(f"{file}: nested too deeply") from None
    if not _fits(found):
        raise UsageError(f"{file}: larger than {MOST_BYTES >> 20} MiB with its aliases written out", mend="split it")
    for number, content in enumerate(found, 1):
        document = Field(content, f"{file}: document {number}", "")
        if document and document.required("kind").text().endswith("List"):
            yield from (item.value for item in document.list("items"))
        elif document:
            yield content


def _policy(document: Field, into: Documents) -> None:
    version = document.required("apiVersion").text()
    if version != "networking.k8s.io/v1":
        raise document["apiVersion"].problem(f"expected networking.k8s.io/v1, found {version!r}")
    name, namespace = _name(document)
    _check(document, "name", name, _NAME, _LONGEST_NAME)  # the kernel has both in its comments
    _check(document, "namespace", namespace, _NAMESPACE, _LONGEST_NAMESPACE)
    _once((namespace, name), into.policies, document)
    into.policies[namespace, name] = policy(namespace, name, document.required("spec"))


def _namespace(document: Field, into: Documents) -> None:
    name, _ = _name(document)
    _check(document, "name", name, _NAMESPACE, _LONGEST_NAMESPACE)
    _once(name, into.namespaces, document)
    into.namespaces[name] = labels(document.required("metadata")["labels"])


def _pod(document: Field, into: Documents) -> None:
    """A pod: how it is labelled, which ports it names, and where it is, which is not asked of a pod of this host."""
    name, namespace = _name(document)
    _once((namespace, name), into.endpoints, document)
    metadata, status = document.required("metadata"), document["status"]
    places = [place.required("ip") for place in status.list("podIPs")] or [status["podIP"]]
    addresses = tuple(parse_address(place.text(), place.where) for place in places if place)
    into.endpoints[namespace, name] = Endpoint(
        namespace, name, addresses, labels(metadata["labels"]), tuple(_named_ports(document["spec"]))
    )


def _named_ports(spec: Field) -> Iterator[ContainerPort]:
    for container in spec.list("containers"):
        for port in container.list("ports"):
            if port["name"]:
                number = port.required("containerPort").port()
                yield ContainerPort(port["name"].text(), transport(port["protocol"]), number)


def _name(document: Field) -> tuple[str, str]:
    metadata = document.required("metadata")
    namespace = metadata["namespace"]
    name = metadata.required("name").text()
    if not name.isprintable() or len(name) > _LONGEST_NAME:  # a pod may be called as a runtime calls its containers
        raise metadata["name"].problem(f"expected at most {_LONGEST_NAME} printable characters")
    return name, namespace.text() if namespace else "default"


def _check(document: Field, key: str, name: str, form: re.Pattern[str], longest: int) -> None:
    if len(name) > longest or not form.fullmatch(name):
        raise document["metadata"][key].problem(
            f"expected at most {longest} lower-case letters, digits and inner hyphens"
        )


def _fits(found: Any) -> bool:
    """Whether the values are no more than a file may have, each counted wherever an alias brings it again."""
    size, count, rest = 0, 0, [found]
    while rest:
        value = rest.pop()
        count += 1
        size += len(value) if isinstance(value, str | bytes) else 1
        if size > MOST_BYTES or count > _MOST_VALUES:
            return False
        if isinstance(value, dict):
            rest += [*value, *value.values()]
        elif isinstance(value, list | tuple | set):
            rest += value
    return True


def _once(key: Any, known: Iterable[Any], document: Field) -> None:
    if key in known:
        raise document["metadata"]["name"].problem("a document of this kind and name stands before it")


_READERS = {"NetworkPolicy": _policy, "Namespace": _namespace, "Pod": _pod}
