"""fairway policy: who may speak with whom."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fairway.cli.host import this_host
from fairway.cli.names import complete_pods
from fairway.cli.output import json_option, plural, print_json, print_table

if TYPE_CHECKING:
    from fairway.net.host.policies import Key
    from fairway.net.model.policy import Labels, Policy

_KINDS = ("NetworkPolicy", "Namespace", "Pod")
FILE = click.Path(exists=True, dir_okay=False, allow_dash=True)


@click.group(epilog="\b\nExample:\n  fairway policy apply web.yaml && fairway policy ls")
def policy() -> None:
    """Who may speak with whom: documents of the form of Kubernetes' NetworkPolicy.

    Besides NetworkPolicy, documents of the kinds Namespace (its labels) and Pod (a pod's labels and named ports, and
    with status.podIP one of another host) say what policies speak of. A pod of Fairway's own is in the namespace
    "default".
    """


@policy.command(epilog="\b\nExample:\n  fairway policy apply web.yaml")
@click.argument("files", metavar="FILE...", nargs=-1, required=True, type=FILE)
@json_option
def apply(files: tuple[str, ...], as_json: bool) -> None:
    """Keep the documents of FILE (YAML or JSON; - for standard input); in force when the command returns.

    One of the same kind and name is replaced. Nothing is kept of a file that has a mistake.
    """
    kept: list[Key] = []
    with this_host() as host:
        for file in files:
            kept += host.policies.apply(_text(file), file)
    if as_json:
        print_json({"applied": [_named(key) for key in kept]})
        return
    for key in kept:
        click.echo(f"{_words(key)} applied")


@policy.command(epilog="\b\nExample:\n  fairway policy check web.yaml")
@click.argument("files", metavar="FILE...", nargs=-1, required=True, type=FILE)
@json_option
def check(files: tuple[str, ...], as_json: bool) -> None:
    """Read FILE and say what is wrong with it; nothing is changed, and no rights are needed."""
    from fairway.net.policy import parse_documents, read_documents

    count = 0
    for file in files:
        text = _text(file)
        read_documents(text, file)
        count += len(list(parse_documents(text, file)))
    if as_json:
        print_json({"documents": count, "right": True})
    else:
        click.echo(f"{plural(count, 'document')}, all right")


@policy.command("ls", epilog="\b\nExample:\n  fairway policy ls --json")
@json_option
def list_policies(as_json: bool) -> None:
    """List the documents that are kept, and what each policy isolates for."""
    with this_host() as host:
        documents = host.policies.documents()
    rows = [("NetworkPolicy", *key, _directions(policy)) for key, policy in documents.policies.items()]
    rows += [("Namespace", "", name, _labels(labels)) for name, labels in documents.namespaces.items()]
    rows += [("Pod", *key, _labels(endpoint.labels)) for key, endpoint in documents.endpoints.items()]
    names = ("kind", "namespace", "name", "about")
    if as_json:
        print_json({"documents": [dict(zip(names, row, strict=True)) for row in rows]})
    else:
        print_table(names, rows, "no policies: everybody may speak with everybody; see: fairway policy apply --help")


@policy.command(epilog="\b\nExample:\n  fairway policy of demo01")
@click.argument("pod", shell_complete=complete_pods)
@json_option
def of(pod: str, as_json: bool) -> None:
    """Say which policies isolate POD, in which direction."""
    with this_host() as host:
        isolating = host.policies.isolating(host.pod(pod))
    found = {d.value: [f"{p.namespace}/{p.name}" for p in policies] for d, policies in isolating.items()}
    if as_json:
        print_json({"pod": pod, "isolated": found})
        return
    for direction in ("ingress", "egress"):
        names = found.get(direction)
        click.echo(f"{direction:<9}{'only what is allowed by ' + ', '.join(names) if names else 'open'}")


@policy.command("rm", epilog="\b\nExample:\n  fairway policy rm web\n  fairway policy rm --kind Pod prod/db")
@click.argument("names", metavar="[NAMESPACE/]NAME...", nargs=-1, required=True)
@click.option("--kind", type=click.Choice(_KINDS), default="NetworkPolicy", show_default=True, help="Of what kind.")
@json_option
def remove(names: tuple[str, ...], kind: str, as_json: bool) -> None:
    """Forget documents; none, if one of them is not there."""
    keys = [_key(kind, name) for name in dict.fromkeys(names)]
    with this_host() as host:
        host.policies.remove(keys)
    if as_json:
        print_json({"removed": [_named(key) for key in keys]})
        return
    for key in keys:
        click.echo(f"{_words(key)} removed")


def _text(file: str) -> str:
    if file == "-":
        return sys.stdin.read()
    return Path(file).read_text(errors="replace")


def _key(kind: str, name: str) -> Key:
    namespace, _, last = name.rpartition("/")
    return kind, "" if kind == "Namespace" else namespace or "default", last


def _words(key: Key) -> str:
    kind, namespace, name = key
    return f"{kind} {namespace}/{name}" if namespace else f"{kind} {name}"


def _named(key: Key) -> dict[str, Any]:
    return dict(zip(("kind", "namespace", "name"), key, strict=True))


def _directions(policy: Policy) -> str:
    rules = (("ingress", policy.ingress), ("egress", policy.egress))
    return ", ".join(f"{word}: {plural(len(found), 'rule')}" for word, found in rules if found is not None)


def _labels(labels: Labels) -> str:
    return ", ".join(f"{key}={value}" for key, value in labels.items())
