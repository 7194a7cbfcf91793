"""Other programs' chains on the forward hook: which of them drop, and our rules at their heads.

A packet must pass every chain on the hook, so an accept in a table of ours undoes no drop in another's. Our rules there
bear the comment TAG, and only rules that do are ever taken away; a link "fwy-*" is every link whose name begins so.
iptables-nft keeps its tables in nftables and reads a rule written there like its own; iptables-legacy's tables are a
world apart (xtables).
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from fairway.net.kernel.netfilter import firewall, xtables
from fairway.net.kernel.netfilter.nftables import Json, Nft
from fairway.net.kernel.netfilter.rules import ACCEPT, COUNT, match, meta
from fairway.net.kernel.netfilter.table_socket import TableSocket
from fairway.net.model.errors import FairwayError, KernelError
from fairway.net.model.facts import ForeignChain, ForwardAccept

TAG = "fairway"
"""The comment of every rule of ours in a chain that is not ours."""

_NFT = "nft"
_FAMILIES = ("ip", "ip6", "inet")
_REFUSALS = ("drop", "reject")
_WITHOUT_EFFECT = ("counter", "log", "mangle")  # statements after which every packet goes on
_DIRECTIONS = {"iifname": True, "oifname": False}
_TRIES = 4  # a change by another program between our look and our transaction makes the transaction fail
_CHANGED = (errno.ENOENT, errno.EINVAL)


@dataclass(slots=True)
class _Found:
    """A chain, and our rules in it by link and direction; with nftables' handle of each."""

    chain: ForeignChain
    ours: dict[tuple[str, bool], list[int]] = field(default_factory=dict)


class ForeignChains:
    """The foreign chains of one network namespace; the calling thread is in it, always."""

    def __init__(self, namespace: str) -> None:
        self._namespace = namespace
        self._nft = Nft()
        self._reader = TableSocket()

    def close(self) -> None:
        """End the sockets; the rules stay."""
        self._nft.close()
        self._reader.close()

    def dropping_chains(self) -> tuple[ForeignChain, ...]:
        """Each foreign chain that drops by policy, or by a last rule without a condition."""
        # The rules of a chain need not be read if its policy says enough.
        nft = (_found_nft(chain, []) if _drops(chain) else self._list(chain) for chain in self._hooked())
        found = [each for each in nft if each is not None] + list(_legacy_chains())
        return tuple(each.chain for each in found if each.chain.reason)

    def accepts(self) -> set[ForwardAccept]:
        """Our rules in foreign chains, those that drop and those that no longer do."""
        nft = (self._list(chain) for chain in self._hooked())
        found = [each for each in nft if each is not None] + list(_legacy_chains())
        return {
            ForwardAccept(self._namespace, each.chain, link, entering) for each in found for link, entering in each.ours
        }

    def add(self, accepts: Iterable[ForwardAccept]) -> None:
        """Put a rule at the head of each one's chain, if it is not there; a chain that is gone needs none."""
        self._edit(accepts, _insertions, _insert_lines)

    def delete(self, accepts: Iterable[ForwardAccept]) -> None:
        """Take our rule out of each one's chain, however often it is there; a rule or chain that is gone: nothing."""
        self._edit(accepts, _deletions, _delete_lines)

    def _edit(
        self,
        accepts: Iterable[ForwardAccept],
        commands_for: Callable[[_Found, list[ForwardAccept]], list[Json]],
        lines_for: Callable[[_Found, list[ForwardAccept]], list[str]],
    ) -> None:
        """Edit each chain in one step; an error in one holds up no other, and is raised at the end."""
        errors: list[FairwayError] = []
        for wanted in _by_chain(accepts):
            try:
                self._edit_chain(wanted, commands_for, lines_for)
            except FairwayError as error:
                errors.append(error)
        if errors:
            raise errors[0]

    def _edit_chain(
        self,
        wanted: list[ForwardAccept],
        commands_for: Callable[[_Found, list[ForwardAccept]], list[Json]],
        lines_for: Callable[[_Found, list[ForwardAccept]], list[str]],
    ) -> None:
        for remaining in reversed(range(_TRIES)):
            found = self._find(wanted[0].chain)
            if found is None:
                return
            try:
                if found.chain.engine == _NFT:
                    self._nft.run(commands_for(found, wanted))
                elif lines := lines_for(found, wanted):
                    xtables.edit(_engine(found.chain), found.chain.table, lines)
                return
            except KernelError as error:
                if not remaining or error.errno not in _CHANGED:
                    raise _explained(error, found.chain) from None

    def _hooked(self) -> list[Json]:
        """nftables' foreign chains on the forward hook, dropping or not."""
        if not self._reader.others_forward(firewall.TABLE):
            return []  # as on most hosts, and seen in a tenth of the time
        chains = [item["chain"] for item in self._nft.run([{"list": {"chains": None}}])]
        return [chain for chain in chains if chain.get("hook") == "forward" and _is_foreign(chain)]

    def _find(self, chain: ForeignChain) -> _Found | None:
        """What `chain` is like now; None if it is gone."""
        if chain.engine == _NFT:
            return self._list({"family": chain.family, "table": chain.table, "name": chain.chain})
        engine = _engine(chain)
        tables = xtables.forward_chains(engine)
        return next((_found_legacy(engine, legacy) for legacy in tables if legacy.table == chain.table), None)

    def _list(self, which: Json) -> _Found | None:
        place = {key: which[key] for key in ("family", "table", "name")}
        try:
            listed = self._nft.run([{"list": {"chain": place}}])
        except KernelError as error:
            if error.errno == errno.ENOENT:
                return None
            raise
        chain = next((item["chain"] for item in listed if "chain" in item), None)
        return None if chain is None else _found_nft(chain, [item["rule"] for item in listed if "rule" in item])


def _by_chain(accepts: Iterable[ForwardAccept]) -> Iterable[list[ForwardAccept]]:
    """`accepts` by their chains, whatever was said of why those drop."""
    chains: dict[object, list[ForwardAccept]] = {}
    for accept in accepts:
        chain = accept.chain
        chains.setdefault((chain.engine, chain.family, chain.table, chain.chain), []).append(accept)
    return chains.values()


def _explained(error: KernelError, chain: ForeignChain) -> KernelError:
    if error.errno != errno.EPERM or chain.engine != _NFT:
        return error
    return KernelError(
        f"{error.message} (chain {chain.chain} of table {chain.family} {chain.table})",
        error.errno,
        mend="run it as root; if the table has an owner (nft list tables), let that program accept the pods' links",
    )


# nftables


def _is_foreign(chain: Json) -> bool:
    ours = chain["family"] == firewall.FAMILY and chain["table"] == firewall.TABLE
    return chain["family"] in _FAMILIES and not ours


def _drops(chain: Json) -> bool:
    return bool(chain.get("policy") == "drop")


def _found_nft(chain: Json, rules: list[Json]) -> _Found:
    reason = "policy drop" if _drops(chain) else _last_rule(rules)
    found = _Found(ForeignChain(_NFT, chain["family"], chain["table"], chain["name"], reason))
    for rule in rules:
        which = _which(rule)
        if which is not None:
            found.ours.setdefault(which, []).append(rule["handle"])
    return found


def _last_rule(rules: list[Json]) -> str:
    """Why the last of `rules` drops every packet that gets to it, in words; empty if it does not."""
    if not rules or not rules[-1].get("expr"):
        return ""
    *before, verdict = rules[-1]["expr"]
    if not all(_passes(expression) for expression in before):
        return ""
    name = next(iter(verdict))
    if name == "xt" and isinstance(verdict["xt"], dict) and verdict["xt"].get("type") == "target":
        name = str(verdict["xt"].get("name", "")).lower()
    return f"last rule {name}" if name in _REFUSALS else ""


def _passes(expression: Json) -> bool:
    name, value = next(iter(expression.items()))
    if name == "xt":
        return isinstance(value, dict) and value.get("type") == "match" and value.get("name") == "comment"
    return name in _WITHOUT_EFFECT


def _which(rule: Json) -> tuple[str, bool] | None:
    """The link and direction that a rule of ours is for; None for any other rule."""
    if rule.get("comment") != TAG:
        return None
    match rule.get("expr"):
        case [
            {"match": {"op": "==", "left": {"meta": {"key": ("iifname" | "oifname") as key}}, "right": str(link)}},
            *_,
            {"accept": _},
        ]:
            return link, _DIRECTIONS[key]
    return None


def _insertions(found: _Found, wanted: list[ForwardAccept]) -> list[Json]:
    missing = dict.fromkeys((accept.link, accept.entering) for accept in wanted)
    return [_insertion(found.chain, link, entering) for link, entering in missing if (link, entering) not in found.ours]


def _insertion(chain: ForeignChain, link: str, entering: bool) -> Json:
    expressions = [match(meta("iifname" if entering else "oifname"), link), COUNT, ACCEPT]
    return {"insert": {"rule": {**_rule_of(chain), "comment": TAG, "expr": expressions}}}


def _deletions(found: _Found, wanted: list[ForwardAccept]) -> list[Json]:
    unwanted = dict.fromkeys((accept.link, accept.entering) for accept in wanted)
    handles = [handle for which in unwanted for handle in found.ours.get(which, ())]
    return [{"delete": {"rule": {**_rule_of(found.chain), "handle": handle}}} for handle in handles]


def _rule_of(chain: ForeignChain) -> Json:
    return {"family": chain.family, "table": chain.table, "chain": chain.chain}


# iptables-legacy


def _legacy_chains() -> Iterator[_Found]:
    for engine in xtables.ENGINES:
        for legacy in xtables.forward_chains(engine):
            yield _found_legacy(engine, legacy)


def _found_legacy(engine: xtables.Engine, legacy: xtables.Chain) -> _Found:
    reason = ""
    if legacy.policy == "DROP":
        reason = "policy drop"
    elif legacy.rules and legacy.rules[-1].unconditional and legacy.rules[-1].target.lower() in _REFUSALS:
        reason = f"last rule {legacy.rules[-1].target.lower()}"
    family = "ip" if engine is xtables.IPV4 else "ip6"
    found = _Found(ForeignChain(engine.name, family, legacy.table, "FORWARD", reason))
    for rule in legacy.rules:
        if rule.comment == TAG and rule.target == "ACCEPT" and (rule.in_interface or rule.out_interface):
            link = rule.in_interface or rule.out_interface
            found.ours.setdefault((_respelled(link, "+", "*"), bool(rule.in_interface)), []).append(0)
    return found


def _engine(chain: ForeignChain) -> xtables.Engine:
    return next(engine for engine in xtables.ENGINES if engine.name == chain.engine)


def _insert_lines(found: _Found, wanted: list[ForwardAccept]) -> list[str]:
    missing = dict.fromkeys((accept.link, accept.entering) for accept in wanted)
    return [f"-I {_legacy_rule(*which)}" for which in missing if which not in found.ours]


def _delete_lines(found: _Found, wanted: list[ForwardAccept]) -> list[str]:
    unwanted = dict.fromkeys((accept.link, accept.entering) for accept in wanted)
    return [f"-D {_legacy_rule(*which)}" for which in unwanted for _ in found.ours.get(which, ())]


def _legacy_rule(link: str, entering: bool) -> str:
    name = _respelled(link, "*", "+")
    return f"FORWARD {'-i' if entering else '-o'} {name} -m comment --comment {TAG} -j ACCEPT"


def _respelled(link: str, ending: str, other: str) -> str:
    """A name that stands for all that begin so ends in a star for nftables, in a plus for iptables."""
    return link.removesuffix(ending) + other if link.endswith(ending) else link
