"""Which host it is."""

from __future__ import annotations

from dataclasses import dataclass

from fairway.net.model.attachment import attachment_mark
from fairway.net.model.facts import HERE
from fairway.net.model.pod import Pod, Site


@dataclass(frozen=True, slots=True)
class Identity:
    """The namespace that a host lives in, and what its pods' namespaces are called and marked with.

    A real host lives in the namespace that Fairway runs in; a lab's node in one of its own.
    """

    home: str = HERE
    prefix: str = ""  # before a pod's name: its namespace's name
    mark: str = "fairway pod"  # before a pod's name: its namespace's mark

    def namespace(self, pod: str) -> str:
        """The name of the pod's namespace."""
        return f"{self.prefix}{pod}"

    def mark_of(self, pod: str) -> str:
        """The mark of the pod's namespace."""
        return f"{self.mark} {pod}"

    def site(self, pod: Pod) -> Site:
        """The namespace that `pod` is in, and how what is in it is marked."""
        if pod.attachment is not None:
            return Site(pod.attachment.namespace.path, attachment_mark(pod.attachment, pod.interface), own=False)
        return Site(self.namespace(pod.name), self.mark_of(pod.name))
