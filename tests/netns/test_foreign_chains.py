"""Other programs' FORWARD chains that drop: found, let the pods through while asked to, and left as they were."""

from __future__ import annotations

import os
import re
import shutil
import struct
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st
from two_pods import STAYS_AWAY_S, Member, TwoPods, arrives, run, talk, two_pods

from fairway.net.kernel import namespaces
from fairway.net.kernel.netfilter import xtables
from fairway.net.kernel.netfilter.firewall import FirewallDriver
from fairway.net.kernel.netfilter.foreign import ForeignChains
from fairway.net.model.errors import FairwayError, KernelError
from fairway.net.model.facts import ForeignChain, ForwardAccept

T = TypeVar("T")

ROOT = os.geteuid() == 0
needs_root = pytest.mark.skipif(not ROOT, reason="needs root: it makes network namespaces")
pytestmark = pytest.mark.root

DUMP = """nft list ruleset
for f in '' 6; do grep -q . /proc/thread-self/net/ip${f}_tables_names && ip${f}tables-legacy-save; done; true"""
NAMES = "cat /proc/thread-self/net/ip_tables_names /proc/thread-self/net/ip6_tables_names"


@pytest.fixture(scope="module")
def network() -> Iterator[TwoPods]:
    with two_pods() as pods:
        yield pods


@pytest.fixture
def fresh() -> Iterator[TwoPods]:
    """A network of its own: a legacy table, once there, stays as long as its namespace."""
    with two_pods() as pods:
        yield pods


@dataclass(frozen=True)
class View:
    """The foreign chains of a host, each call made inside its namespace."""

    member: Member
    chains: ForeignChains

    def dropping(self) -> tuple[ForeignChain, ...]:
        return self._inside(self.chains.dropping_chains)

    def accepts(self) -> set[ForwardAccept]:
        return self._inside(self.chains.accepts)

    def add(self, accepts: set[ForwardAccept]) -> None:
        self._inside(lambda: self.chains.add(accepts))

    def delete(self, accepts: set[ForwardAccept]) -> None:
        self._inside(lambda: self.chains.delete(accepts))

    def both_pods(self, *chains: ForeignChain) -> set[ForwardAccept]:
        here = self.member.namespace
        ends = [(link, entering) for link in ("fwy-a", "fwy-b") for entering in (True, False)]
        return {ForwardAccept(here, chain, link, entering) for chain in chains for link, entering in ends}

    def _inside(self, work: Callable[[], T]) -> T:
        return namespaces.inside(self.member.namespace, work)


def view_of(network: TwoPods) -> View:
    host = network.host
    return View(host, namespaces.inside(host.namespace, lambda: ForeignChains(host.namespace)))


@pytest.fixture
def view(network: TwoPods) -> Iterator[View]:
    seen = view_of(network)
    yield seen
    run(
        network.host,
        "nft flush ruleset; for f in '' 6; do ip${f}tables-legacy -F; ip${f}tables-legacy -P FORWARD ACCEPT; done",
    )
    seen.chains.close()


@dataclass(frozen=True)
class Case:
    """Commands that make a chain which drops; the chain; the versions of IP that it stops."""

    commands: str
    chain: ForeignChain
    stops: tuple[int, ...]


def _nft(body: str, family: str, reason: str, stops: tuple[int, ...]) -> Case:
    command = f"nft 'table {family} theirs {{ chain through {{ type filter hook forward priority 5; {body} }}; }}'"
    return Case(command, ForeignChain("nft", family, "theirs", "through", reason), stops)


def _tool(tool: str, rule: str, reason: str) -> Case:
    family = "ip6" if tool.startswith("ip6") else "ip"
    engine = tool if tool.endswith("legacy") else "nft"
    return Case(
        f"{tool} {rule}", ForeignChain(engine, family, "filter", "FORWARD", reason), (6 if family == "ip6" else 4,)
    )


COMMENTED = "-A FORWARD -m comment --comment last -j DROP"
CASES = {
    "nft inet, policy drop": _nft("policy drop;", "inet", "policy drop", (4, 6)),
    "nft ip, policy drop": _nft("policy drop; ct state invalid drop;", "ip", "policy drop", (4,)),
    "nft ip6, policy drop": _nft("policy drop;", "ip6", "policy drop", (6,)),
    "nft, last rule drop": _nft("ct state invalid drop; counter drop;", "inet", "last rule drop", (4, 6)),
    "nft, last rule reject": _nft("counter reject with icmpx admin-prohibited;", "inet", "last rule reject", (4, 6)),
    "iptables-nft, policy": _tool("iptables-nft", "-P FORWARD DROP", "policy drop"),
    "iptables-nft, reject": _tool("iptables-nft", "-A FORWARD -j REJECT", "last rule reject"),
    "iptables-nft, drop": _tool("iptables-nft", COMMENTED, "last rule drop"),
    "ip6tables-nft, policy": _tool("ip6tables-nft", "-P FORWARD DROP", "policy drop"),
    "iptables-legacy, policy": _tool("iptables-legacy", "-P FORWARD DROP", "policy drop"),
    "iptables-legacy, reject": _tool("iptables-legacy", "-A FORWARD -j REJECT", "last rule reject"),
    "iptables-legacy, drop": _tool("iptables-legacy", COMMENTED, "last rule drop"),
    "ip6tables-legacy, policy": _tool("ip6tables-legacy", "-P FORWARD DROP", "policy drop"),
    "ip6tables-legacy, reject": _tool("ip6tables-legacy", "-A FORWARD -j REJECT", "last rule reject"),
}


@needs_root
class TestAChainThatDrops:
    @pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
    def test_lets_the_pods_through_as_long_as_our_rules_are_in_it(
        self, network: TwoPods, view: View, case: Case
    ) -> None:
        assert talk(network.a, network.b, 4)
        assert talk(network.a, network.b, 6)
        run(network.host, case.commands)
        before = _without_counts(run(network.host, DUMP))
        assert view.dropping() == (case.chain,)
        assert view.accepts() == set()
        _assert_stopped(network, case)

        wanted = view.both_pods(case.chain)
        view.add(wanted)
        assert talk(network.a, network.b, 4)
        assert talk(network.a, network.b, 6)
        assert view.accepts() == wanted
        assert view.dropping() == (case.chain,), "it drops what is not a pod's, still"
        assert _without_counts(_without_ours(run(network.host, DUMP))) == before

        view.delete(wanted)
        assert view.accepts() == set()
        assert _without_counts(run(network.host, DUMP)) == before
        _assert_stopped(network, case)

    @pytest.mark.parametrize(
        "case", [CASES["nft inet, policy drop"], CASES["iptables-legacy, policy"]], ids=["nft", "legacy"]
    )
    def test_holds_each_rule_once_and_loses_only_what_is_tagged(self, network: TwoPods, view: View, case: Case) -> None:
        run(network.host, case.commands)
        if case.chain.engine == "nft":
            theirs = "nft 'add rule inet theirs through iifname fwy-a accept comment \"theirs\"'"
        else:
            theirs = "iptables-legacy -A FORWARD -i fwy-a -j ACCEPT"
        run(network.host, theirs)
        before = _without_counts(run(network.host, DUMP))
        wanted = view.both_pods(case.chain)
        view.add(wanted)
        once = _without_counts(run(network.host, DUMP))
        view.add(wanted)
        assert _without_counts(run(network.host, DUMP)) == once
        for _ in range(2):
            view.delete(wanted)
            assert _without_counts(run(network.host, DUMP)) == before

    @pytest.mark.parametrize("tool", ["nft", "legacy"])
    def test_loses_a_rule_that_is_in_it_twice(self, network: TwoPods, view: View, tool: str) -> None:
        engine = f"iptables-{tool}"
        case = CASES[f"{engine}, policy"]
        run(network.host, case.commands)
        view.add(view.both_pods(case.chain))
        for _ in range(2):
            if tool == "nft":
                run(network.host, "nft 'insert rule ip filter FORWARD iifname fwy-a counter accept comment fairway'")
            else:
                run(network.host, "iptables-legacy -I FORWARD -i fwy-a -m comment --comment fairway -j ACCEPT")
        view.delete({accept for accept in view.both_pods(case.chain) if accept.link == "fwy-a"})
        assert {accept.link for accept in view.accepts()} == {"fwy-b"}

    @pytest.mark.parametrize("name", ["nft inet, policy drop", "iptables-nft, policy", "iptables-legacy, policy"])
    def test_lets_every_pod_through_by_one_rule_each_way(self, network: TwoPods, view: View, name: str) -> None:
        chain = CASES[name].chain
        run(network.host, CASES[name].commands)
        wanted = {ForwardAccept(network.host.namespace, chain, "fwy-*", entering) for entering in (True, False)}
        view.add(wanted)
        view.add(wanted)
        assert view.accepts() == wanted
        assert talk(network.a, network.b, 4)
        view.delete(wanted)
        _assert_stopped(network, CASES[name])

    def test_that_stops_dropping_still_shows_our_rules_for_removal(self, network: TwoPods, view: View) -> None:
        run(network.host, "iptables-nft -P FORWARD DROP; iptables-legacy -P FORWARD DROP")
        chains = view.dropping()
        view.add(view.both_pods(*chains))
        run(network.host, "iptables-nft -P FORWARD ACCEPT; iptables-legacy -P FORWARD ACCEPT")
        assert view.dropping() == ()
        assert {accept.key for accept in view.accepts()} == {accept.key for accept in view.both_pods(*chains)}
        view.delete(view.accepts())
        assert view.accepts() == set()

    def test_and_is_gone_needs_nothing_added_nor_deleted(self, network: TwoPods, view: View) -> None:
        run(network.host, "iptables-nft -P FORWARD DROP; iptables-legacy -P FORWARD DROP")
        nft, legacy = view.dropping()
        security = ForeignChain("iptables-legacy", "ip", "security", "FORWARD", "policy drop")
        wanted = view.both_pods(nft, legacy, security)
        run(network.host, "nft delete table ip filter")
        view.add(wanted)
        assert view.accepts() == view.both_pods(legacy)
        view.delete(wanted)
        assert view.accepts() == set()
        assert "security" not in run(network.host, NAMES)

    def test_but_belongs_to_a_running_program_holds_up_no_other(self, network: TwoPods, view: View) -> None:
        def start() -> subprocess.Popen[str]:
            return subprocess.Popen(["nft", "-i"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

        with namespaces.inside(network.host.namespace, start) as owner:
            assert owner.stdin is not None
            assert owner.stdout is not None
            owner.stdin.write("add table inet owned { flags owner; }\n")
            owner.stdin.write("add chain inet owned f { type filter hook forward priority 0; policy drop; }\n")
            owner.stdin.write("list chain inet owned f\n")
            owner.stdin.flush()
            while "policy drop" not in owner.stdout.readline():
                pass
            run(network.host, "ip6tables-nft -P FORWARD DROP")
            chains = {chain.table: chain for chain in view.dropping()}
            assert set(chains) == {"owned", "filter"}
            with pytest.raises(KernelError, match="chain f of table inet owned"):
                view.add(view.both_pods(chains["owned"], chains["filter"]))
            assert view.accepts() == view.both_pods(chains["filter"])
            owner.stdin.write("quit\n")
            owner.stdin.close()


@needs_root
class TestWhatIsNoForeignChainThatDrops:
    @pytest.mark.parametrize(
        "command",
        [
            "iptables-nft -A FORWARD -i eth7 -j DROP",
            "iptables-nft -A FORWARD -m comment --comment x -p udp -j DROP",
            "iptables-legacy -A FORWARD -i eth7 -j DROP",
            "iptables-legacy -A FORWARD ! -o eth7 -j REJECT",
            "iptables-legacy -A FORWARD -p udp -j DROP",
            "ip6tables-legacy -A FORWARD -s fd00::/16 -j DROP",
            "ip6tables-legacy -A FORWARD -m mac --mac-source 02:00:00:00:00:01 -j DROP",
            "iptables-legacy -A FORWARD -j DROP; iptables-legacy -A FORWARD -j ACCEPT",
            "iptables-legacy -P INPUT DROP; iptables-nft -P INPUT DROP",
            "iptables-legacy -t raw -A PREROUTING -i eth7 -j DROP; ip6tables-legacy -t raw -P OUTPUT ACCEPT",
            "nft 'table inet t { chain c { type filter hook forward priority 0; tcp dport 22 drop; }; }'",
            "nft 'table inet t { chain c { type filter hook forward priority 0; limit rate 5/second drop; }; }'",
            "nft 'table inet t { chain c { drop; }; }'",
            "nft 'table bridge t { chain c { type filter hook forward priority 0; policy drop; }; }'",
        ],
    )
    def test_is_not_reported(self, network: TwoPods, view: View, command: str) -> None:
        run(network.host, command)
        assert view.dropping() == ()

    def test_our_own_table_is_not_foreign(self, network: TwoPods, view: View) -> None:
        host = network.host
        driver = namespaces.inside(host.namespace, lambda: FirewallDriver(host.namespace))
        driver.install()
        run(host, "nft 'add chain inet fairway forward { type filter hook forward priority 0; policy drop; }'")
        assert view.dropping() == ()
        driver.close()

    def test_looking_makes_no_legacy_table(self, fresh: TwoPods) -> None:
        seen = view_of(fresh)
        assert run(fresh.host, NAMES) == ""
        assert seen.dropping() == ()
        assert seen.accepts() == set()
        assert run(fresh.host, NAMES) == ""
        run(fresh.host, "iptables-legacy -t mangle -P FORWARD DROP")
        assert [chain.table for chain in seen.dropping()] == ["mangle"]
        assert run(fresh.host, NAMES) == "mangle\n"
        seen.chains.close()


@needs_root
class TestTheToolsOfIptables:
    def test_show_our_rules_in_their_nft_tables_as_their_own(self, network: TwoPods, view: View) -> None:
        run(network.host, "iptables-nft -P FORWARD DROP")
        view.add({accept for accept in view.both_pods(*view.dropping()) if accept.link == "fwy-a" and accept.entering})
        rule = "-A FORWARD -i fwy-a -m comment --comment fairway -j ACCEPT"
        assert run(network.host, "iptables-nft -S FORWARD").splitlines() == ["-P FORWARD DROP", rule]
        assert rule in run(network.host, "iptables-nft-save").splitlines()
        run(network.host, f"iptables-nft {rule.replace('-A', '-D', 1)}")
        assert view.accepts() == set()

    def test_when_missing_leave_the_chain_reported_and_the_reader_told(
        self, network: TwoPods, view: View, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        run(network.host, "iptables-legacy -P FORWARD DROP")
        monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
        chain = CASES["iptables-legacy, policy"].chain
        assert view.dropping() == (chain,)
        with pytest.raises(FairwayError, match="iptables-legacy-restore is not installed") as caught:
            view.add(view.both_pods(chain))
        assert caught.value.mend == "apt-get install iptables"

    def test_change_the_namespace_that_they_are_called_in_and_no_other(self, network: TwoPods, view: View) -> None:
        run(network.host, "iptables-legacy -P FORWARD DROP")
        view.add(view.both_pods(*view.dropping()))
        assert run(network.a, NAMES) == ""
        assert run(network.b, NAMES) == ""


def _entry(verdict: int, *, interface: bytes = b"", comment: bytes = b"") -> bytes:
    """A struct ipt_entry with a standard target, as the kernel hands it out."""
    mask = b"\xff" * (len(interface) + 1) if interface else b""
    match = struct.pack("=H29sB256s", 288, b"comment", 0, comment) if comment else b""
    head = struct.pack("=16x16s16s16s16s4x", interface, b"", mask, b"")
    return (
        head
        + struct.pack("=IHHIQQ", 0, 112 + len(match), 152 + len(match), 0, 0, 0)
        + match
        + struct.pack("=H29sBi4x", 40, b"", 0, verdict)
    )


INPUT, OURS, LAST, POLICY = _entry(-2), _entry(-2, interface=b"fwy-a", comment=b"fairway"), _entry(-1), _entry(-2)
TABLE_BYTES = INPUT + OURS + LAST + POLICY
HOOK_OFFSETS = (0, 0, len(INPUT), 0, 0)
UNDERFLOWS = (0, 0, len(TABLE_BYTES) - len(POLICY), 0, 0)
INFO_BYTES = struct.pack("=32s13I", b"filter", 1 << 2, *HOOK_OFFSETS, *UNDERFLOWS, 4, len(TABLE_BYTES))


class TestALegacyTablesBytes:
    def test_are_read_as_rules_and_a_policy(self) -> None:
        ours = xtables.Rule("ACCEPT", False, "fairway", "fwy-a", "")
        last = xtables.Rule("DROP", True, "", "", "")
        assert xtables.decode(xtables.IPV4, "filter", INFO_BYTES, TABLE_BYTES) == xtables.Chain(
            "filter", "ACCEPT", (ours, last)
        )

    @given(st.integers(0, len(TABLE_BYTES) - 1))
    def test_that_are_cut_short_are_refused(self, length: int) -> None:
        with pytest.raises(ValueError, match="cut short"):
            xtables.decode(xtables.IPV4, "filter", INFO_BYTES, TABLE_BYTES[:length])

    @pytest.mark.parametrize("length", [0, 1, 111, 112, 143, 153, 65535])
    def test_that_go_on_at_a_wrong_place_are_refused(self, length: int) -> None:
        at = HOOK_OFFSETS[2] + 90  # next_offset, in struct ipt_entry
        wrong = TABLE_BYTES[:at] + struct.pack("=H", length) + TABLE_BYTES[at + 2 :]
        with pytest.raises(ValueError, match="cut short"):
            xtables.decode(xtables.IPV4, "filter", INFO_BYTES, wrong)

    @given(st.sampled_from(xtables.ENGINES), st.binary(min_size=84, max_size=84), st.binary(max_size=2000))
    def test_that_are_noise_are_refused_or_read(self, engine: xtables.Engine, info: bytes, entries: bytes) -> None:
        _refused_or_read(engine, info, entries)

    @given(st.data())
    def test_that_have_one_byte_wrong_are_refused_or_read(self, data: st.DataObject) -> None:
        whole = bytearray(INFO_BYTES + TABLE_BYTES)
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
        _refused_or_read(xtables.IPV4, bytes(whole[: len(INFO_BYTES)]), bytes(whole[len(INFO_BYTES) :]))


def _refused_or_read(engine: xtables.Engine, info: bytes, entries: bytes) -> None:
    try:
        chain = xtables.decode(engine, "filter", info, entries)
    except ValueError:
        return
    assert chain is None or len(chain.rules) <= len(entries) // engine.matches_at


def _assert_stopped(network: TwoPods, case: Case) -> None:
    for version in (4, 6):
        source, there = network.a.address(version), network.b.address(version)
        if version in case.stops:
            assert not arrives(network.a, source, network.b, there, timeout=STAYS_AWAY_S)
        else:
            assert talk(network.a, network.b, version)


def _without_counts(dump: str) -> str:
    dump = re.sub(r"packets \d+ bytes \d+", "", dump)
    return re.sub(r"\[\d+:\d+\]|^#.*\n", "", dump, flags=re.MULTILINE)


def _without_ours(dump: str) -> str:
    return re.sub(r'^.*(comment "fairway"|--comment fairway ).*\n', "", dump, flags=re.MULTILINE)
