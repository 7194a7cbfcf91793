"""A host's network policies: documents kept on disk, compiled with its pods, in force before a pod has traffic.

Without policies nothing of this is in the kernel, and adding a pod costs one look into the state file.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from fairway.net.host.store import Store
from fairway.net.kernel import Kernel
from fairway.net.model.errors import KernelError, UsageError
from fairway.net.model.facts import PolicyRules
from fairway.net.model.pod import Pod
from fairway.net.model.policy import Direction, Endpoint, Policy
from fairway.net.model.policy_table import PolicyDelta
from fairway.net.policy import Compiler, Documents, parse_documents, read_documents

DEFAULT_NAMESPACE = "default"
"""What a pod that no Kubernetes knows is in."""

Key = tuple[str, str, str]
"""A document's kind, namespace (empty for a Namespace) and name."""


class Policies:
    """The documents of one host, and what they make of its pods."""

    def __init__(self, store: Store, kernel: Kernel) -> None:
        self._store = store
        self._kernel = kernel
        self._compiler: Compiler | None = None
        self._seen = -1  # the state of the file that the compiler was made of
        self._documents = Documents()

    # What a person asks for

    def documents(self) -> Documents:
        """All that is kept."""
        with self._store.lock():
            return self._read()

    def apply(self, text: str, file: str) -> list[Key]:
        """Keep the documents of a file, each in the place of one of the same kind and name; in force on return."""
        new = list(parse_documents(text, file))
        read_documents(text, file)  # every one must be right before any is kept
        # YAML has values that JSON has not, such as dates: where one is read, `read_documents` has refused it.
        rows = [(*_key(each), json.dumps(each, default=str, skipkeys=True)) for each in new]
        with self._store.lock():
            with self._store.transaction() as database:
                database.executemany("INSERT OR REPLACE INTO policy_documents VALUES (?, ?, ?, ?)", rows)
            self._enforce()
        return [row[:3] for row in rows]

    def remove(self, keys: Iterable[Key]) -> None:
        """Forget documents; UsageError, and none is forgotten, if one of them is not kept."""
        wanted = list(keys)
        with self._store.lock():
            for key in wanted:
                if not self._store.rows(
                    "SELECT 1 FROM policy_documents WHERE (kind, namespace, name) = (?, ?, ?)", *key
                ):
                    kind, namespace, name = key
                    place = f"{namespace}/{name}" if namespace else name
                    raise UsageError(f"there is no {kind} {place}", mend="see: fairway policy ls")
            with self._store.transaction() as database:
                database.executemany(
                    "DELETE FROM policy_documents WHERE kind = ? AND namespace = ? AND name = ?", wanted
                )
            self._enforce()

    def isolating(self, pod: Pod) -> dict[Direction, tuple[Policy, ...]]:
        """The policies that a pod of this host is isolated by, in each direction in which it is."""
        with self._store.lock():
            compiler = self._current(None)
            if compiler is None:
                return {}
            endpoint = self._endpoint(pod)
            return {d: found for d in Direction if (found := compiler.policies_of(endpoint, d))}

    # What becomes of the pods; the caller holds the store's lock

    def enter(self, pod: Pod, *, moved: bool = False) -> None:
        """The pod, whose link is not up yet, is guarded from now on; one that has `moved` keeps its connections."""
        compiler = self._current(pod)
        if compiler is not None:
            endpoint = self._endpoint(pod)
            if not moved:  # what was allowed to who had its addresses before is not allowed to it
                self._kernel.filter.forget_connections(pod.addresses)
            self._change(compiler, compiler.put(endpoint))
            # If a document says that another host has it, it has moved here.
            self._change(compiler, compiler.remove((endpoint.namespace, endpoint.name, "")))

    def leave(self, pod: Pod) -> None:
        """The pod, which has no link any more, is gone."""
        compiler = self._current(pod)
        if compiler is not None:
            self._change(compiler, compiler.remove((*_name(pod), pod.name)))

    def rules(self) -> PolicyRules | None:
        """What should be in the kernel; None: nothing."""
        compiler = self._current(None)
        return PolicyRules(self._kernel.home, compiler.table()) if compiler is not None else None

    # Within

    def _change(self, compiler: Compiler, delta: PolicyDelta) -> None:
        self._seen = self._store.version()
        if not delta:
            return
        try:
            self._kernel.filter.change_policy(delta)
        except KernelError:
            # The kernel has something else than we believe: our table is new, or somebody has been at it.
            self._kernel.filter.replace_policy(compiler.table())

    def _enforce(self) -> None:
        """Bring what is kept into the kernel, if there are pods that have it in force."""
        self._compiler = None
        if not self._store.is_empty():
            compiler = self._current(None)
            self._kernel.filter.replace_policy((compiler or Compiler()).table())

    def _current(self, without: Pod | None) -> Compiler | None:
        """The compiler of what is kept and of the pods, but for one that comes or goes; None without policies."""
        version = self._store.version()
        if self._seen != version:
            self._compiler = None
        if self._compiler is not None:
            return self._compiler if self._documents.policies else None
        self._seen = version
        self._documents = self._read()
        self._compiler = Compiler(self._documents.policies.values(), self._documents.namespaces)
        if not self._documents.policies:
            return None
        entries = self._store.entries()
        here = {_name(entry.pod) for entry in entries}
        for endpoint in self._documents.endpoints.values():
            if (endpoint.namespace, endpoint.name) not in here and endpoint.addresses:
                self._compiler.put(endpoint)
        for entry in entries:
            if without is None or entry.pod.name != without.name:
                self._compiler.put(self._endpoint(entry.pod))
        return self._compiler

    def _endpoint(self, pod: Pod) -> Endpoint:
        """A pod of this host: what its runtime said of it, and what a document of its name does."""
        namespace, name = _name(pod)
        said = pod.attachment.kubernetes.labels if pod.attachment is not None else {}
        document = self._documents.endpoints.get((namespace, name))
        labels = {**said, **(document.labels if document is not None else {})}
        ports = document.ports if document is not None else ()
        return Endpoint(namespace, name, pod.addresses, labels, ports, local=True, attachment=pod.name)

    def _read(self) -> Documents:
        rows = self._store.rows("SELECT document FROM policy_documents ORDER BY kind, namespace, name")
        documents = Documents()
        for number, (text,) in enumerate(rows, 1):
            documents.read(json.loads(text), f"kept document {number}")
        return documents


def _name(pod: Pod) -> tuple[str, str]:
    """What a pod is called among policies: as Kubernetes calls it, or by its own name in the default namespace."""
    known = pod.attachment.kubernetes if pod.attachment is not None else None
    if known is not None and known.pod:
        return known.namespace or DEFAULT_NAMESPACE, known.pod
    return DEFAULT_NAMESPACE, pod.name


def _key(document: dict[str, Any]) -> Key:
    kind, metadata = document["kind"], document["metadata"]
    namespace = "" if kind == "Namespace" else metadata.get("namespace", DEFAULT_NAMESPACE)
    return kind, namespace, metadata["name"]
