"""Operations done: grouped so that each namespace is entered once and each batch of requests is one call."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby

from fairway.net.kernel import messages, namespaces, sysctl
from fairway.net.kernel.netlink import Netlink
from fairway.net.kernel.sessions import Sessions
from fairway.net.model.errors import FairwayError, KernelError, NotOursError, RouteTakenError
from fairway.net.model.facts import (
    Address,
    AllowedSources,
    Bridge,
    BridgePort,
    Fact,
    Firewall,
    ForwardAccept,
    Masquerade,
    Namespace,
    Neighbour,
    PolicyRules,
    Refusal,
    Route,
    Sysctl,
    TunnelGuard,
    Up,
    Veth,
    Vxlan,
)
from fairway.net.model.operations import Change, Delete, Failure, Operation
from fairway.net.model.policy_table import PolicyTable
from fairway.net.model.words import describe

_GONE = (errno.ENODEV, errno.ENOENT, errno.ESRCH, errno.EADDRNOTAVAIL)
"""What the kernel says of a thing to be deleted that is not there: as good as deleted."""

_LINKED = (BridgePort, Up, Address, Neighbour, Route)
_NETLINK = (*_LINKED, Refusal)

Step = Callable[[Sessions, Sequence[Operation]], list[Failure]]


def execute(sessions: Sessions, operations: Sequence[Operation]) -> list[Failure]:
    """Do `operations` in their order; one that fails holds up no other. Returns those that failed."""
    failures: list[Failure] = []
    for step, group in _groups(operations):
        failures += step(sessions, group)
    return failures


def _groups(operations: Sequence[Operation]) -> Iterator[tuple[Step, list[Operation]]]:
    """Runs of operations that one step does together; within a run, what is in one namespace stands together."""
    for (step, _), run in groupby(operations, key=lambda operation: (_step(operation), type(operation) is Delete)):
        by_namespace: dict[str, list[Operation]] = {}
        for operation in run:
            by_namespace.setdefault(_namespace(operation.fact), []).append(operation)
        for group in by_namespace.values():
            yield step, group


def _step(operation: Operation) -> Step:
    fact = operation.fact
    if isinstance(fact, _NETLINK):
        return _routing
    return _STEPS[type(fact)]


def _namespace(fact: Fact) -> str:
    return fact.name if isinstance(fact, Namespace) else fact.namespace


def _namespaces(sessions: Sessions, operations: Sequence[Operation]) -> list[Failure]:
    def one(operation: Operation) -> None:
        fact = operation.fact
        assert isinstance(fact, Namespace)
        if isinstance(operation, Delete):
            sessions.forget(fact.name)
            namespaces.remove(fact.name)
            return
        mark = Up(fact.name, "lo", fact.mark)
        if isinstance(operation, Change):
            _raise_first(sessions.netlink(fact.name).batch([messages.set_up(mark, 1)]))
            return

        def born() -> Netlink:
            netlink = Netlink()
            _raise_first(netlink.batch([messages.set_up(mark, 1)]))
            return netlink

        sessions.adopt(fact.name, namespaces.make(fact.name, born))

    return _each(operations, one)


def _links(sessions: Sessions, operations: Sequence[Operation]) -> list[Failure]:
    def one(operation: Operation) -> None:
        fact = operation.fact
        assert isinstance(fact, Veth | Bridge | Vxlan)
        netlink = sessions.netlink(fact.namespace)
        if isinstance(operation, Delete):
            _raise_first(netlink.batch([messages.delete_link(fact.name)]), _GONE)
        elif isinstance(operation, Change):
            _adjust(sessions, fact)
        elif isinstance(fact, Bridge):
            _raise_first(netlink.batch([messages.new_bridge(fact)]))
        elif isinstance(fact, Vxlan):
            _make_vxlan(netlink, fact)
        else:
            _make_pair(sessions, fact)

    return _each(operations, one)


def _make_pair(sessions: Sessions, fact: Veth) -> None:
    netlink = sessions.netlink(fact.namespace)
    descriptor = os.open(namespaces.path_of(fact.peer_namespace), os.O_RDONLY | os.O_CLOEXEC)
    try:
        (error,) = netlink.batch([messages.new_veth(fact, descriptor)])
    finally:
        os.close(descriptor)
    if error is not None and error.errno == errno.EEXIST:
        there = fact.name if netlink.index(fact.name) else f"{fact.peer} in {fact.peer_namespace}"
        raise NotOursError(
            f"the interface {there} exists and is not Fairway's",
            mend=f"choose another name, or remove it: ip link delete {fact.name}",
        )
    if error is not None:
        raise error


def _make_vxlan(netlink: Netlink, fact: Vxlan) -> None:
    (error,) = netlink.batch([messages.new_vxlan(fact)])
    if error is not None and error.errno == errno.EOPNOTSUPP:
        raise KernelError("the kernel knows no VXLAN", error.errno, mend="load its module: modprobe vxlan")
    if error is not None:
        raise error


def _adjust(sessions: Sessions, fact: Veth | Bridge | Vxlan) -> None:
    netlink = sessions.netlink(fact.namespace)
    mac = "" if isinstance(fact, Bridge) else fact.mac
    _raise_first(netlink.batch([messages.set_link(netlink.index(fact.name), mtu=fact.mtu, mac=mac)]))
    if isinstance(fact, Veth):
        far = sessions.netlink(fact.peer_namespace)
        _raise_first(far.batch([messages.set_link(far.index(fact.peer), mtu=fact.mtu, mac=fact.peer_mac)]))


def _sysctls(sessions: Sessions, operations: Sequence[Operation]) -> list[Failure]:
    def one(operation: Operation) -> None:
        if isinstance(operation.fact, Sysctl) and not isinstance(operation, Delete):
            sysctl.write(operation.fact.path, operation.fact.value)

    return _inside(sessions, operations, lambda: _each(operations, one))


def _firewall(sessions: Sessions, operations: Sequence[Operation]) -> list[Failure]:
    firewall = sessions.firewall(_namespace(operations[0].fact))

    def one(operation: Operation) -> None:
        if isinstance(operation, Delete):
            firewall.remove()
        else:
            firewall.install()

    return _inside(sessions, operations, lambda: _each(operations, one))


def _sources(sessions: Sessions, operations: Sequence[Operation]) -> list[Failure]:
    firewall = sessions.firewall(_namespace(operations[0].fact))

    def one(operation: Operation) -> None:
        assert isinstance(operation.fact, AllowedSources)
        if isinstance(operation, Delete):
            firewall.disallow(operation.fact.link)
        elif isinstance(operation, Change):
            firewall.change(operation.fact)
        else:
            firewall.allow(operation.fact)

    return _each(operations, one)


def _policies(sessions: Sessions, operations: Sequence[Operation]) -> list[Failure]:
    driver = sessions.policies(_namespace(operations[0].fact))

    def one(operation: Operation) -> None:
        assert isinstance(operation.fact, PolicyRules)
        driver.replace(PolicyTable() if isinstance(operation, Delete) else operation.fact.table)

    return _each(operations, one)


def _masquerade(sessions: Sessions, operations: Sequence[Operation]) -> list[Failure]:
    driver = sessions.masquerade(_namespace(operations[0].fact))

    def one(operation: Operation) -> None:
        assert isinstance(operation.fact, Masquerade)
        driver.replace(None if isinstance(operation, Delete) else operation.fact)

    return _each(operations, one)


def _tunnel_guard(sessions: Sessions, operations: Sequence[Operation]) -> list[Failure]:
    driver = sessions.tunnel_guard(_namespace(operations[0].fact))

    def one(operation: Operation) -> None:
        assert isinstance(operation.fact, TunnelGuard)
        driver.replace(None if isinstance(operation, Delete) else operation.fact)

    return _each(operations, one)


def _accepts(sessions: Sessions, operations: Sequence[Operation]) -> list[Failure]:
    foreign = sessions.foreign(_namespace(operations[0].fact))
    facts = [operation.fact for operation in operations if isinstance(operation.fact, ForwardAccept)]
    deleting = isinstance(operations[0], Delete)

    def work() -> list[Failure]:
        return _together(operations, lambda: foreign.delete(facts) if deleting else foreign.add(facts))

    return _inside(sessions, operations, work)


def _routing(sessions: Sessions, operations: Sequence[Operation]) -> list[Failure]:
    """All that is an interface's state, an address, a neighbour or a route: one batch."""
    try:
        netlink = sessions.netlink(_namespace(operations[0].fact))
    except FairwayError as error:
        return [Failure(operation, error) for operation in operations]
    failures: list[Failure] = []
    sent: list[Operation] = []
    requests: list[bytes] = []
    for operation in operations:
        try:
            request = _request(netlink, operation)
        except FairwayError as error:
            failures.append(Failure(operation, error))
            continue
        if request is not None:
            sent.append(operation)
            requests.append(request)
    for operation, answer in zip(sent, netlink.batch(requests), strict=True):
        verdict = _judge(operation, answer)
        if verdict is not None:
            failures.append(Failure(operation, verdict))
    return failures


def _request(netlink: Netlink, operation: Operation) -> bytes | None:
    """The request that `operation` amounts to; None if its link is gone and it is a deletion."""
    fact = operation.fact
    new = not isinstance(operation, Delete)
    name = fact.link if isinstance(fact, _LINKED) else ""
    index = netlink.index(name) if name else 0
    if name and not index:
        if not new:
            return None
        raise KernelError(f"there is no interface {name} in {_namespace(fact) or 'this namespace'}", errno.ENODEV)
    match fact:
        case Up():
            return messages.set_up(fact, index) if new else messages.set_down(index)
        case BridgePort():
            return messages.set_link(index, master=netlink.index(fact.bridge) if new else 0)
        case Address():
            return messages.address(fact, index, new=new)
        case Neighbour():
            return messages.neighbour(fact, index, new=new)
        case Refusal():
            return messages.new_refusal(fact) if new else messages.delete_refusal(fact)
        case Route():
            replace = isinstance(operation, Change)
            return messages.new_route(fact, index, replace=replace) if new else messages.delete_route(fact, index)
        case _:
            raise AssertionError(fact)


def _judge(operation: Operation, error: KernelError | None) -> FairwayError | None:
    """`error` as a person should read it; None where it makes no difference."""
    if error is None or (isinstance(operation, Delete) and error.errno in _GONE):
        return None
    fact = operation.fact
    if isinstance(fact, Address) and error.errno == errno.EEXIST:
        return None
    if isinstance(fact, Route) and error.errno == errno.EEXIST:
        return RouteTakenError(
            f"a route to {fact.destination} exists and is not Fairway's",
            mend=f"remove it: ip route delete {fact.destination}",
        )
    doing = f"cannot {type(operation).__name__.lower()} {describe(fact)}"
    mend = error.mend
    if isinstance(fact, Route) and fact.gateway is not None and error.errno in (errno.EINVAL, errno.ENETUNREACH):
        mend = f"{fact.gateway} must be an address on a network that this host is on"
    return KernelError(f"{doing}: {error.message}", error.errno, mend=mend)


def _inside(sessions: Sessions, operations: Sequence[Operation], work: Callable[[], list[Failure]]) -> list[Failure]:
    """`work` done by a thread inside the operations' namespace, where files and tools must be used there."""
    try:
        return namespaces.inside(_namespace(operations[0].fact), work)
    except FairwayError as error:
        return [Failure(operation, error) for operation in operations]


def _each(operations: Iterable[Operation], one: Callable[[Operation], None]) -> list[Failure]:
    failures = []
    for operation in operations:
        try:
            one(operation)
        except (FairwayError, OSError) as error:
            failures.append(Failure(operation, _fairway(error)))
    return failures


def _together(operations: Sequence[Operation], work: Callable[[], None]) -> list[Failure]:
    """One transaction; where it fails, every operation of it failed."""
    try:
        work()
    except (FairwayError, OSError) as error:
        return [Failure(operation, _fairway(error)) for operation in operations]
    return []


def _fairway(error: FairwayError | OSError) -> FairwayError:
    if isinstance(error, FairwayError):
        return error
    return KernelError(f"{error.filename or 'the kernel'}: {error.strerror}", error.errno or 0)


def _raise_first(answers: Sequence[KernelError | None], tolerated: Sequence[int] = ()) -> None:
    for answer in answers:
        if answer is not None and answer.errno not in tolerated:
            raise answer


_STEPS: dict[type, Step] = {
    Namespace: _namespaces,
    Veth: _links,
    Bridge: _links,
    Vxlan: _links,
    Sysctl: _sysctls,
    Firewall: _firewall,
    AllowedSources: _sources,
    PolicyRules: _policies,
    Masquerade: _masquerade,
    TunnelGuard: _tunnel_guard,
    ForwardAccept: _accepts,
}
