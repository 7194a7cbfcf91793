"""What is wrong with a lab's file is said with file, line, key and what was expected, all at once."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairway.lab.topology import load, parse
from fairway.lab.topology.parse import LAB_KEYS, LINK_KEYS, NODE_KEYS, POD_KEYS, ROUTE_KEYS
from fairway.net.model.errors import UsageError

EXAMPLE = (Path(__file__).parents[2] / "examples" / "two-hosts.toml").read_text()
GOOD = """\
mtu = 1500
[nodes.a]
pools = ["10.0.1.0/24"]
forward_policy = "accept"
routes = [{ to = "10.9.0.0/16", via = "10.0.0.2" }]
[nodes.b]
pools = ["10.0.2.0/24", "fd00:2::/64"]
[routers.r]
[links.lan]
mtu = 1500
members.a = "10.0.0.1/24"
members.b = ["10.0.0.2/24", "fd00::2/64"]
members.r = ["10.0.0.3/24", "fd00::3/64"]
delay = "10ms"
[pods.x]
node = "a"
address = "10.0.1.2"
[pods.y]
node = "b"
mtu = 1400
"""

# what is replaced in GOOD, by what, and how the one error begins after the file's name
ONE_CHANGE = [
    ("mtu = 1500\n[nodes.a]", "mtu = true\n[nodes.a]", "1: mtu: expected a whole number of bytes from 68 to 65535"),
    ("mtu = 1500\n[nodes.a]", "mtu = 70000\n[nodes.a]", "1: mtu: expected a whole number of bytes from 68 to 65535"),
    ("mtu = 1500\n[nodes.a]", "mtu = = 1\n[nodes.a]", "1: not valid TOML: Invalid value, at column 7"),
    ("mtu = 1500\n[nodes.a]", "name = 1\n[nodes.a]", "1: name: expected a string that is not empty, got 1"),
    ("mtu = 1500\n[nodes.a]", "name = ''\n[nodes.a]", "1: name: expected a string that is not empty, got ''"),
    ("mtu = 1500\n[nodes.a]", "name = 'A b'\n[nodes.a]", "1: name: lab name 'A b' is not valid: use lower-case"),
    ("mtu = 1500\n[nodes.a]", "routs = 'auto'\n[nodes.a]", "1: routs: unknown key; did you mean routes?"),
    (
        "mtu = 1500\n[nodes.a]",
        "zzz = 1\n[nodes.a]",
        "1: zzz: unknown key; there are: name, mtu, routes, agents, cross_subnet, nodes",
    ),
    ("mtu = 1500\n[nodes.a]", "routes = 'no'\n[nodes.a]", '1: routes: expected "auto" or "manual", got \'no\''),
    ('["10.0.1.0/24"]', "7", "3: nodes.a.pools: expected a network, such as 10.0.1.0/24 or fd00:1::/64, got 7"),
    ('["10.0.1.0/24"]', '["10.0.1.5/24"]', "3: nodes.a.pools[0]: expected a network without bits of a host, such as"),
    ('["10.0.1.0/24"]', '["10.0.1.0/24", []]', "3: nodes.a.pools[1]: expected a network, such as 10.0.1.0/24"),
    ('["10.0.1.0/24"]', '["10.0.1.0/24", "224.0.0.0/4"]', "3: nodes.a.pools[1]: expected a network without any of"),
    ('["10.0.1.0/24"]', '["10.0.1.0/24", "fe80::/64"]', "3: nodes.a.pools[1]: expected a network without any of fe80"),
    ('["10.0.1.0/24"]', '["10.0.1.0/24", "169.254.0.0/16"]', "3: nodes.a.pools[1]: expected a network without any of"),
    ("forward_policy", "forward_polcy", "4: nodes.a.forward_polcy: unknown key; did you mean forward_policy?"),
    ('"accept"', '"reject"', '4: nodes.a.forward_policy: expected "accept" or "drop", got \'reject\''),
    ('[{ to = "10.9.0.0/16", via = "10.0.0.2" }]', '"x"', "5: nodes.a.routes: expected a list of tables, got 'x'"),
    ('{ to = "10.9.0.0/16", via = "10.0.0.2" }', "1", "5: nodes.a.routes[0]: expected a table, got 1"),
    (', via = "10.0.0.2"', "", "5: nodes.a.routes[0]: expected the key via: the address of the next hop"),
    ('via = "10.0.0.2"', 'via = "x"', "5: nodes.a.routes[0].via: expected an address without prefix length"),
    ('via = "10.0.0.2"', 'vai = "10.0.0.2", via = "10.0.0.2"', "5: nodes.a.routes[0].vai: unknown key; did you mean"),
    ('via = "10.0.0.2"', 'via = "10.7.0.2"', "5: nodes.a.routes[0].via: expected an address on one of the links of a"),
    ('via = "10.0.0.2"', 'via = "10.0.0.1"', "5: nodes.a.routes[0].via: expected another's address, got a's own"),
    ('via = "10.0.0.2"', 'via = "fd00::2"', "5: nodes.a.routes[0].via: expected an IPv4 address, as 10.9.0.0/16 needs"),
    ("10.9.0.0/16", "10.0.0.0/24", "5: nodes.a.routes[0].to: expected a network further off, got 10.0.0.0/24"),
    (
        '"10.0.0.2" }]',
        '"10.0.0.2" }, { to = "10.9.0.0/16", via = "10.0.0.3" }]',
        "5: nodes.a.routes[1].to: expected one route to 10.9.0.0/16, got another",
    ),
    ("[nodes.b]", "[nodes.B]", "6: nodes.B: node name 'B' is not valid: use lower-case letters"),
    ('"10.0.2.0/24"', '"10.0.1.128/25"', "7: nodes.b.pools[0]: expected a network of its own: 10.0.1.128/25 overlaps"),
    ('"10.0.2.0/24"', '"10.0.0.0/20"', "7: nodes.b.pools[0]: expected a network of its own: 10.0.0.0/20 overlaps"),
    ('"10.0.2.0/24"', '"10.0.2.0/32", "10.0.2.0/32"', "7: nodes.b.pools[1]: expected a network of its own: 10.0.2.0"),
    ("[routers.r]", "[routers.r]\npools = []", "9: routers.r.pools: unknown key; there are: routes"),
    ("[routers.r]", "[routers.r]\n[routers.s]", "9: routers.s: on no link: expected it among the members of one"),
    ("[routers.r]", "[routers.r]\n[nodes.r]", "8: routers.r: expected a name of its own; nodes.r has it already"),
    ("mtu = 1500\nmembers", "mtu = 1000\nmembers", "10: links.lan.mtu: expected an MTU of at least 1280, which IPv6"),
    ('"10.0.0.1/24"', '"10.0.0.1"', "11: links.lan.members.a: expected an address with the prefix length"),
    ('"10.0.0.1/24"', "[]", "11: links.lan.members.a: expected at least one address, got none"),
    (
        '"10.0.0.1/24"',
        '"10.0.0.0/24"',
        "11: links.lan.members.a: expected an address of a host, not that of the subnet",
    ),
    ('"10.0.0.1/24"', '"10.0.0.255/24"', "11: links.lan.members.a: expected an address of a host, not the broadcast"),
    ('"10.0.0.1/24"', '"127.0.0.1/8"', "11: links.lan.members.a: expected an address outside 127.0.0.0/8, the loop"),
    ('"10.0.0.1/24"', '"169.254.1.1/16"', "11: links.lan.members.a: expected an address outside 169.254.0.0/16, the"),
    ('"10.0.0.1/24"', '["10.0.0.1/24", "fe80::1/64"]', "11: links.lan.members.a[1]: expected an address outside fe80"),
    ('"10.0.0.1/24"', '["10.0.0.1/24", "fd00::1%x/64"]', "11: links.lan.members.a[1]: expected an address with the"),
    (
        '"10.0.0.1/24"',
        '["10.0.0.1/24", "10.0.0.2/25"]',
        "11: links.lan.members.a[1]: expected an address in 10.0.0.0/24",
    ),
    (
        '"10.0.0.2/24"',
        '"10.0.0.1/24"',
        "12: links.lan.members.b[0]: expected an address of its own: links.lan.members.a",
    ),
    ("members.a", "members.aa = '10.0.0.9/24'\nmembers.a", "11: links.lan.members.aa: no such node or router; did you"),
    (
        "members.a",
        "members.x = '10.0.0.9/24'\nmembers.a",
        "11: links.lan.members.x: no such node or router; it is a pod",
    ),
    ("delay", "jitter", "14: links.lan.jitter: expected at most the delay, 0ms, got 10ms"),
    ('"10ms"', '"10"', "14: links.lan.delay: expected a duration from 0ms to 60s"),
    ('"10ms"', '"61s"', "14: links.lan.delay: expected a duration from 0ms to 60s"),
    ('"10ms"', "10", "14: links.lan.delay: expected a duration from 0ms to 60s"),
    ('delay = "10ms"', 'loss = "101%"', "14: links.lan.loss: expected a percentage from 0% to 100%"),
    ('delay = "10ms"', "loss = 0.5", "14: links.lan.loss: expected a percentage from 0% to 100%"),
    ('delay = "10ms"', 'rate = "0bit"', "14: links.lan.rate: expected a rate from 1kbit to 100gbit"),
    ('delay = "10ms"', 'rate = "10mbps"', "14: links.lan.rate: expected a rate from 1kbit to 100gbit"),
    ('delay = "10ms"', "[links.new]", "14: links.new: expected at least two members, got 0"),
    (
        'delay = "10ms"',
        "[links.new]\nmembers.a = '10.8.0.1/24'",
        "15: links.new.members: expected at least two members",
    ),
    ('delay = "10ms"', "[links.new]\nmembers = 3", "15: links.new.members: expected a table, got 3"),
    ("[pods.x]", "[pods.lan]", "15: pods.lan: expected a name of its own; links.lan has it already"),
    ('node = "a"', "", "15: pods.x: expected the key node: the node it runs on"),
    ('node = "a"', 'node = "aa"', "16: pods.x.node: no node 'aa'; did you mean a?"),
    ('node = "a"', 'node = "r"', "16: pods.x.node: no node 'r'; it is a router, which has no pods"),
    ('"10.0.1.2"', '"10.0.1.2/24"', "17: pods.x.address: expected an address without prefix length"),
    ('"10.0.1.2"', '"10.0.2.2"', "17: pods.x.address: expected an address in a pool of a, which has 10.0.1.0/24; got"),
    ('"10.0.1.2"', '["10.0.1.2", "10.0.1.2"]', "17: pods.x.address[1]: expected an address of its own: pods.x.address"),
    ('"10.0.1.2"', '"10.0.1.2"\naddresses = []', "18: pods.x.addresses: expected address or addresses, got both"),
    ('"10.0.1.2"', '"10.0.1.0"', "17: pods.x.address: expected another address: 10.0.1.0 is the first or last address"),
    ("mtu = 1400", "mtu = 1000", "20: pods.y.mtu: expected an MTU of at least 1280, which IPv6 needs, got 1000"),
    ("[nodes.b]", "[nodes.b]\n[nodes.b]", "7: not valid TOML: Cannot declare ('nodes', 'b') twice, at column 9"),
]


def errors(text: str, source: str = "lab.toml") -> list[str]:
    with pytest.raises(UsageError) as caught:
        parse(text, source)
    return caught.value.message.split("\n")


class TestMessages:
    def test_the_text_that_the_cases_change_is_right(self) -> None:
        parse(GOOD, "lab.toml")

    @pytest.mark.parametrize(("old", "new", "expected"), ONE_CHANGE, ids=lambda text: text[:40])
    def test_each_error_names_file_line_key_and_what_was_expected(self, old: str, new: str, expected: str) -> None:
        assert old in GOOD
        found = errors(GOOD.replace(old, new, 1))
        assert any(line.startswith(f"lab.toml:{expected}") for line in found), found

    def test_all_errors_are_reported_in_the_order_of_the_file(self) -> None:
        text = GOOD.replace('"10ms"', "1").replace('["10.0.1.0/24"]', "1").replace('node = "a"', 'node = "c"')
        assert [line.split(":")[1] for line in errors(text)] == ["3", "14", "16"]

    def test_at_most_ten_errors_are_shown(self) -> None:
        found = errors("".join(f"{key} = 1\n" for key in "abcdefghijklm"))
        assert len(found) == 11
        assert found[-1] == "lab.toml: and 3 more"

    def test_without_any_node_there_is_no_lab(self) -> None:
        assert errors("") == ["lab.toml: expected at least one node: [nodes.NAME]"]
        assert errors("[routers.r]") == ["lab.toml: expected at least one node: [nodes.NAME]"]

    def test_a_misspelt_table_is_the_only_thing_that_is_said(self) -> None:
        assert errors(GOOD.replace("[nodes.", "[node.")) == ["lab.toml:2: node: unknown key; did you mean nodes?"]

    def test_a_file_whose_name_is_no_name_for_a_lab_says_how_to_name_it(self) -> None:
        (line,) = errors(GOOD, "My Lab.toml")
        assert line.startswith(
            "My Lab.toml: lab name 'My Lab' is not valid (from the file's name; or set the key name)"
        )

    def test_a_pod_needs_an_address_or_a_pool(self) -> None:
        text = GOOD.replace('pools = ["10.0.1.0/24"]', "").replace('address = "10.0.1.2"', "")
        assert errors(text) == ["lab.toml:15: pods.x: expected an address, or pools on a to take one from"]

    @pytest.mark.parametrize(("prefix", "room"), [("30", 2), ("31", 2), ("32", 1)])
    def test_pods_without_addresses_must_fit_into_the_pools(self, prefix: str, room: int) -> None:
        text = GOOD.replace("10.0.1.0/24", f"10.0.1.0/{prefix}").replace('address = "10.0.1.2"', "")
        parse(text + "".join(f'[pods.p{n}]\nnode = "a"\n' for n in range(room - 1)), "lab.toml")
        assert errors(text + "".join(f'[pods.p{n}]\nnode = "a"\n' for n in range(room))) == [
            f"lab.toml:3: nodes.a.pools: expected room for {room + 1} pods without an address of their own, "
            f"got {room} free IPv4 addresses"
        ]

    def test_an_address_that_a_pod_was_given_is_not_free_for_another(self) -> None:
        text = GOOD.replace("10.0.1.0/24", "10.0.1.0/30")
        parse(f'{text}[pods.p]\nnode = "a"\n', "lab.toml")
        (line,) = errors(f'{text}[pods.p]\nnode = "a"\n[pods.q]\nnode = "a"\n')
        assert line.endswith("expected room for 2 pods without an address of their own, got 1 free IPv4 addresses")

    def test_a_lone_address_of_a_family_is_an_error(self) -> None:
        text = GOOD.replace('["10.0.0.3/24", "fd00::3/64"]', '"10.0.0.3/24"')
        assert errors(text) == [
            "lab.toml:12: links.lan.members.b[1]: fd00::2/64 is the link's only IPv6 address: "
            "expected another member to have one"
        ]

    def test_links_in_one_subnet_are_an_error(self) -> None:
        text = f'{GOOD}[links.two]\nmembers = {{ a = "10.0.0.65/26", b = "10.0.0.66/26" }}\n'
        assert errors(text)[0].startswith(
            "lab.toml:21: links.two: expected a network of its own: 10.0.0.64/26 overlaps"
        )

    def test_a_pool_without_a_path_names_both_nodes(self) -> None:
        text = GOOD.replace('["10.0.1.0/24"]', '["10.0.1.0/24", "fd00:1::/64"]')
        assert errors(text) == [
            "lab.toml:2: nodes.a: no path to b with its pool fd00:2::/64: expected links with IPv6 addresses from one "
            'to the other, over routers only (or routes = "manual")',
            "lab.toml:6: nodes.b: no path to a with its pool fd00:1::/64: expected links with IPv6 addresses from one "
            'to the other, over routers only (or routes = "manual")',
        ]
        parse(f'routes = "manual"\n{text}', "lab.toml")

    def test_a_file_that_cannot_be_read_is_a_usage_error(self, tmp_path: Path) -> None:
        (tmp_path / "latin.toml").write_bytes(b"# \xe9")
        for path in (tmp_path / "missing.toml", tmp_path, tmp_path / "latin.toml", "nul\0.toml"):
            with pytest.raises(UsageError, match="cannot be read: "):
                load(path)

    @pytest.mark.parametrize("text", ["x = " + "[" * 100_000, "mtu = " + "9" * 5_000, "mtu = 0x" + "f" * 5_000])
    def test_absurd_values_are_usage_errors(self, text: str) -> None:
        assert len(errors(text)[0]) < 300


KEYS = sorted({*LAB_KEYS, *NODE_KEYS, *LINK_KEYS, *POD_KEYS, *ROUTE_KEYS, "a", "b", "lan"})
WORDS = st.sampled_from(
    ["a", "b", "auto", "10ms", "1%", "1mbit", "10.0.0.1/24", "10.0.0.2/24", "fd00::1/64", "10.1.0.0/24", "10.1.0.1", ""]
)
SYNTAX = "ab19.-_:/% \t\n\r\0=[]{},#\"'\\\u00e9\u0661\U0001f600"
SCALARS = (
    WORDS
    | st.text(SYNTAX, max_size=8)
    | st.integers()
    | st.booleans()
    | st.floats(allow_nan=False, allow_infinity=False)
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4),
    max_leaves=12,
)
ROUTES = st.lists(st.fixed_dictionaries({}, optional={"to": WORDS, "via": WORDS}), max_size=2) | SCALARS
DOCUMENTS: st.SearchStrategy[dict[str, object]] = st.fixed_dictionaries(
    {},
    optional={
        "name": SCALARS,
        "mtu": SCALARS,
        "routes": SCALARS,
        "nodes": st.dictionaries(
            WORDS, st.fixed_dictionaries({}, optional={"pools": VALUES, "routes": ROUTES}) | SCALARS, max_size=3
        ),
        "routers": st.dictionaries(WORDS, st.just({}) | SCALARS, max_size=1) | SCALARS,
        "links": st.dictionaries(
            WORDS,
            st.fixed_dictionaries({"members": st.dictionaries(WORDS, WORDS | st.lists(WORDS)) | VALUES}),
            max_size=2,
        ),
        "pods": st.dictionaries(
            WORDS, st.fixed_dictionaries({"node": WORDS}, optional={"address": VALUES}), max_size=2
        ),
    },
)


def toml(value: object) -> str:
    """`value` as TOML, tables inline."""
    if isinstance(value, dict):
        return (
            "{"
            + ", ".join(f"{json.dumps(key, ensure_ascii=False)} = {toml(each)}" for key, each in value.items())
            + "}"
        )
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    return json.dumps(value, ensure_ascii=False)


class TestAnyInput:
    @settings(deadline=None)
    @given(st.dictionaries(st.sampled_from(KEYS), VALUES) | DOCUMENTS)
    def test_any_document_is_a_topology_or_a_usage_error(self, document: dict[str, object]) -> None:
        text = "\n".join(f"{key} = {toml(value)}" for key, value in document.items())
        with suppress(UsageError):
            parse(text, "lab.toml")

    @settings(deadline=None)
    @given(st.text(SYNTAX))
    def test_any_text_is_a_topology_or_a_usage_error(self, text: str) -> None:
        with suppress(UsageError):
            parse(text, "lab.toml")

    @settings(deadline=None)
    @given(
        st.integers(0, len(EXAMPLE)), st.integers(0, 40), st.sampled_from(["", "\n", '"', "]", "}", "/", "9", "node02"])
    )
    def test_an_example_with_a_slip_is_a_topology_or_a_usage_error(self, start: int, cut: int, put: str) -> None:
        with suppress(UsageError):
            parse(EXAMPLE[:start] + put + EXAMPLE[start + cut :], "two-hosts.toml")
