"""Network policy as a person states it: who may speak with whom. The model of Kubernetes' NetworkPolicy v1.

A pod that no policy selects for a direction is open in it. One that some policy selects is isolated: only what a rule
of one of those policies names may pass, and the answers to it. Policies add up; none takes away what another allows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from fairway.net.model.facts import IPAddress, IPNetwork

Labels = Mapping[str, str]

NAMESPACE_NAME = "kubernetes.io/metadata.name"
"""The label that every namespace bears by itself; its value is the namespace's name."""


class Direction(Enum):
    """Which of an isolated pod's packets: those to it, or those from it."""

    INGRESS = "ingress"
    EGRESS = "egress"


class Operator(Enum):
    """How a requirement compares a label, by LabelSelectorRequirement's words."""

    IN = "In"
    NOT_IN = "NotIn"
    EXISTS = "Exists"
    DOES_NOT_EXIST = "DoesNotExist"


@dataclass(frozen=True, slots=True)
class Requirement:
    """What one label must be like. A label that is not there is in no set of values: NotIn holds."""

    key: str
    operator: Operator
    values: frozenset[str] = frozenset()

    def holds(self, labels: Labels) -> bool:
        """Whether `labels` are like that."""
        value = labels.get(self.key)
        match self.operator:
            case Operator.IN:
                return value is not None and value in self.values
            case Operator.NOT_IN:
                return value is None or value not in self.values
            case Operator.EXISTS:
                return value is not None
            case Operator.DOES_NOT_EXIST:
                return value is None


@dataclass(frozen=True, slots=True)
class Selector:
    """All requirements must hold; without any it selects everything."""

    requirements: frozenset[Requirement] = frozenset()

    def selects(self, labels: Labels) -> bool:
        """Whether it selects what bears `labels`."""
        return all(requirement.holds(labels) for requirement in self.requirements)


EVERYTHING = Selector()


@dataclass(frozen=True, slots=True)
class PodPeer:
    """The pods that `pods` selects, in the namespaces that `namespaces` selects; None: in the policy's own."""

    pods: Selector
    namespaces: Selector | None = None


@dataclass(frozen=True, slots=True)
class BlockPeer:
    """The addresses of a network, less some parts of it. Whether they are pods' or not."""

    network: IPNetwork
    exceptions: frozenset[IPNetwork] = frozenset()


Peer = PodPeer | BlockPeer


@dataclass(frozen=True, slots=True)
class Ports:
    """The ports from `first` to `last` of a transport protocol. `first` 0: all of them."""

    protocol: str  # "tcp", "udp" or "sctp"
    first: int = 0
    last: int = 0


@dataclass(frozen=True, slots=True)
class NamedPort:
    """The port that the pod to which the packet goes calls so."""

    protocol: str
    name: str


@dataclass(frozen=True, slots=True)
class Rule:
    """What is allowed: any of `peers` (without any: everybody) at any of `ports` (without any: whatever is sent)."""

    peers: tuple[Peer, ...] = ()
    ports: tuple[Ports | NamedPort, ...] = ()


@dataclass(frozen=True, slots=True)
class Policy:
    """One NetworkPolicy. A direction that it does not speak of is None; one without rules allows nothing."""

    namespace: str
    name: str
    pods: Selector
    ingress: tuple[Rule, ...] | None = None
    egress: tuple[Rule, ...] | None = None

    def rules(self, direction: Direction) -> tuple[Rule, ...] | None:
        """Its rules of one direction; None if it isolates nobody in that."""
        return self.ingress if direction is Direction.INGRESS else self.egress


@dataclass(frozen=True, slots=True)
class ContainerPort:
    """A port to which a pod gave a name."""

    name: str
    protocol: str
    number: int


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A pod as policies see it, on whichever host it is; `local`: on this one, which has to guard it."""

    namespace: str
    name: str
    addresses: tuple[IPAddress, ...]
    labels: Labels = field(default_factory=dict)
    ports: tuple[ContainerPort, ...] = ()
    local: bool = False
    attachment: str = ""
    """What a host calls a pod of its own: for Kubernetes all interfaces of a pod, and its next life, have one name."""

    @property
    def key(self) -> tuple[str, str, str]:
        """A pod is known by its namespace and name, and one of this host by what that calls it."""
        return (self.namespace, self.name, self.attachment)
