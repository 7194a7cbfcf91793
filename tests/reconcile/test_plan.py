"""plan(desired, observed), held against a small model of what a kernel does with its operations."""

from __future__ import annotations

from ipaddress import ip_address, ip_interface, ip_network

from hypothesis import given
from hypothesis import strategies as st

from fairway.net.model.facts import (
    Address,
    AllowedSources,
    Bridge,
    BridgePort,
    Fact,
    Firewall,
    Namespace,
    Neighbour,
    Route,
    Sysctl,
    Up,
    Veth,
)
from fairway.net.model.operations import Change, Create, Delete, Operation
from fairway.net.model.pod import Pod, Site
from fairway.net.reconcile import plan, pod_facts

POD = Pod("demo01", (ip_address("10.0.1.2"), ip_address("fd00::2")), 1500)
FACTS = pod_facts("", Site("demo01", "fairway pod demo01"), POD)


def ends(fact: Fact) -> set[tuple[str, str]]:
    if isinstance(fact, Veth):
        return {(fact.namespace, fact.name), (fact.peer_namespace, fact.peer)}
    return {(fact.namespace, fact.name)} if isinstance(fact, Bridge) else set()


class Model:
    """A kernel that refuses what has no ground to stand on, and takes away what loses it.

    Since Linux 6.16 a chain at a link's ingress stays when the link goes (`keeps_chains`).
    """

    def __init__(self, facts: set[Fact], *, keeps_chains: bool) -> None:
        self.facts = {fact.key: fact for fact in facts}
        self.keeps_chains = keeps_chains

    def namespaces(self) -> set[str]:
        return {"", *(fact.name for fact in self.facts.values() if isinstance(fact, Namespace))}

    def links(self) -> set[tuple[str, str]]:
        found = {(name, "lo") for name in self.namespaces()}
        for fact in self.facts.values():
            found |= ends(fact)
        return found

    def stands(self, fact: Fact) -> bool:
        if isinstance(fact, Namespace):
            return True
        if fact.namespace not in self.namespaces():
            return False
        if isinstance(fact, Veth):
            return fact.peer_namespace in self.namespaces()
        if isinstance(fact, BridgePort):
            return {(fact.namespace, fact.link), (fact.namespace, fact.bridge)} <= self.links()
        if isinstance(fact, Up | Address | Neighbour | Route | AllowedSources):
            return (fact.namespace, fact.link) in self.links()
        return True

    def stays(self, fact: Fact) -> bool:
        return self.stands(fact) or (self.keeps_chains and isinstance(fact, AllowedSources))

    def do(self, operation: Operation) -> None:
        fact = operation.fact
        if isinstance(operation, Create):
            is_chain = isinstance(fact, AllowedSources)  # making one replaces what is there
            assert is_chain or fact.key not in self.facts, f"{fact} is there already"
            assert self.stands(fact), f"{fact} has nothing to stand on"
            self.facts[fact.key] = fact
        elif isinstance(operation, Change):
            assert self.facts[fact.key] == operation.observed
            self.facts[fact.key] = fact
        else:
            assert isinstance(operation, Delete)
            if not isinstance(fact, AllowedSources):  # it goes after its link, and in some kernels with it
                assert self.facts[fact.key] == fact
            self.facts.pop(fact.key, None)
        while fallen := [key for key, each in self.facts.items() if not self.stays(each)]:
            for key in fallen:
                del self.facts[key]
        if isinstance(operation, Delete) and isinstance(fact, Veth):
            settings = [f for f in self.facts.values() if isinstance(f, Sysctl)]
            for setting in settings:
                if any(setting.namespace == where and f"/{link}/" in setting.path for where, link in ends(fact)):
                    del self.facts[setting.key]


def bring(observed: set[Fact], desired: set[Fact], *, keeps_chains: bool) -> Model:
    model = Model(observed, keeps_chains=keeps_chains)
    for operation in plan(desired, observed):
        model.do(operation)
    return model


NAMES = st.sampled_from(["a", "b", "c"])


@st.composite
def states(draw: st.DrawFn) -> set[Fact]:
    """A state that a kernel can be in: everything in it has its ground."""
    spaces = draw(st.sets(NAMES))
    facts: set[Fact] = {Namespace(name, f"fairway pod {name}") for name in spaces}
    for name in sorted(spaces):
        if draw(st.booleans()):
            mtu = draw(st.sampled_from([1400, 1500]))
            peer = draw(st.sampled_from(sorted(spaces)))
            facts.add(Veth("", f"fwy-{name}", peer, f"to-{name}", mtu, mac=draw(st.sampled_from(["m1", "m2"]))))
            facts |= draw(
                st.sets(
                    st.sampled_from(
                        [
                            Up("", f"fwy-{name}", name),
                            Sysctl("", f"net/ipv6/conf/fwy-{name}/accept_ra", "0"),
                            AllowedSources("", f"fwy-{name}", frozenset([ip_address("10.0.0.1")])),
                            Route("", ip_network("10.0.0.1"), f"fwy-{name}"),
                            Address(peer, f"to-{name}", ip_interface("10.0.0.1/32")),
                            Neighbour(peer, f"to-{name}", ip_address("169.254.1.1"), "ee"),
                            Route(peer, ip_network("0.0.0.0/0"), f"to-{name}", ip_address("169.254.1.1")),
                        ]
                    )
                )
            )
    if draw(st.booleans()):
        facts |= {Bridge("", "br0", 1500)}
    if draw(st.booleans()):
        facts.add(Firewall(""))
    return set({fact.key: fact for fact in facts}.values())


@given(states(), states(), st.booleans())
def test_the_operations_lead_from_any_state_to_any_other_and_then_nothing_is_left_to_do(
    observed: set[Fact], desired: set[Fact], keeps_chains: bool
) -> None:
    model = bring(observed, desired, keeps_chains=keeps_chains)
    for fact in desired:
        assert model.facts[fact.key] == fact
    extra = [f for key, f in model.facts.items() if key not in {d.key for d in desired}]
    assert all(isinstance(fact, Sysctl | Up) for fact in extra)  # never unset: what they were is not ours to know
    assert plan(desired, set(model.facts.values())) == []


@given(states())
def test_a_state_that_is_as_desired_needs_no_operation(state: set[Fact]) -> None:
    assert plan(state, state) == []


def test_a_pod_is_made_from_the_ground_up_its_guard_before_its_link_is_up():
    kinds = [type(operation.fact) for operation in plan(FACTS, ())]
    assert kinds[:2] == [Namespace, Veth]
    assert kinds.index(AllowedSources) < kinds.index(Up)
    assert max(i for i, kind in enumerate(kinds) if kind is Address) < kinds.index(Route)


def test_a_pod_goes_with_its_namespace_link_and_guard_the_guard_after_the_link_and_nothing_is_taken_away_twice():
    operations = plan((), FACTS)
    kinds = [type(operation.fact) for operation in operations]
    assert kinds[0] is Veth
    assert set(kinds[1:]) == {Namespace, AllowedSources}
    assert len(kinds) == 3
    assert all(isinstance(operation, Delete) for operation in operations)


def test_a_link_whose_far_end_is_elsewhere_is_made_anew_with_all_that_stood_on_it():
    astray = {fact for fact in FACTS if not isinstance(fact, Veth)} | {Veth("", POD.link, "", "", 1500)}
    kinds = [(type(operation), type(operation.fact)) for operation in plan(FACTS, astray)]
    assert kinds[:2] == [(Delete, Veth), (Create, Veth)]
    assert (Create, Route) in kinds
    assert (Create, Sysctl) in kinds
    assert (Create, Namespace) not in kinds


def test_another_mtu_is_a_change_and_not_a_new_link():
    (veth,) = (fact for fact in FACTS if isinstance(fact, Veth))
    narrow = pod_facts("", Site("demo01", "fairway pod demo01"), Pod(POD.name, POD.addresses, 1400))
    (operation,) = plan(narrow, FACTS)
    assert isinstance(operation, Change)
    assert operation.observed == veth


def test_a_route_that_names_no_link_is_satisfied_by_any():
    wanted = Route("", ip_network("10.0.3.0/24"), gateway=ip_address("192.0.2.1"))
    seen = Route("", ip_network("10.0.3.0/24"), "eth0", ip_address("192.0.2.1"))
    assert plan({wanted}, {seen}) == []


def test_settings_and_links_that_are_up_are_never_undone():
    assert plan((), {Sysctl("", "net/ipv4/ip_forward", "1"), Up("", "lo", "")}) == []
