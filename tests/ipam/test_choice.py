"""Which pools a pod's addresses may come from."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest

from fairway.net.ipam import check_wanted, eligible, wish_of
from fairway.net.model.attachment import AttachRequest, Kubernetes
from fairway.net.model.errors import UsageError
from fairway.net.model.pool import Pool, Wish

ALL4 = Pool(ip_network("10.0.0.0/24"), "main")
ALL6 = Pool(ip_network("fd00::/64"), "main")
SHOP = Pool(ip_network("10.1.0.0/24"), "shop", kubernetes_namespaces=frozenset({"shop"}))
NET = Pool(ip_network("10.2.0.0/24"), "net", networks=frozenset({"storage"}))
POOLS = [ALL4, ALL6, SHOP, NET]


def test_what_is_for_all_serves_whom_no_other_is_for():
    assert eligible(POOLS, Wish()) == {4: [ALL4], 6: [ALL6]}
    assert eligible(POOLS, Wish(kubernetes_namespace="other")) == {4: [ALL4], 6: [ALL6]}


def test_a_pool_for_the_pods_namespace_or_network_stands_in_for_those_for_all():
    assert eligible(POOLS, Wish(kubernetes_namespace="shop")) == {4: [SHOP], 6: [ALL6]}
    assert eligible(POOLS, Wish(network="storage")) == {4: [NET], 6: [ALL6]}


def test_the_versions_of_ip_may_be_chosen():
    assert eligible(POOLS, Wish(versions=(6,))) == {6: [ALL6]}
    with pytest.raises(UsageError, match="no pool of IPv6"):
        eligible([ALL4], Wish(versions=(4, 6)))


def test_pools_may_be_named_but_not_those_of_another_namespace():
    assert eligible(POOLS, Wish(pools=("shop",))) == {4: [SHOP]}
    assert eligible(POOLS, Wish(pools=("shop", "main"))) == {4: [SHOP, ALL4], 6: [ALL6]}
    assert eligible([Pool(ip_network("10.9.0.0/24"))], Wish(pools=("10.9.0.0/24",)))
    with pytest.raises(UsageError, match="no pool called 'nobodys'"):
        eligible(POOLS, Wish(pools=("nobodys",)))
    with pytest.raises(UsageError, match="shop is not for pods of the namespace other"):
        eligible(POOLS, Wish(pools=("shop",), kubernetes_namespace="other"))


def test_no_pool_at_all_is_an_error():
    with pytest.raises(UsageError, match="no pool that is for it"):
        eligible([SHOP], Wish(kubernetes_namespace="other"))


def test_an_address_of_ones_own_choice_must_be_in_a_pool_that_is_for_one():
    assert check_wanted(POOLS, Wish((ip_address("10.1.0.9"),))) == (ip_address("10.1.0.9"),)
    for wish, words in (
        (Wish((ip_address("10.1.0.9"),), kubernetes_namespace="other"), "not for pods of the namespace other"),
        (Wish((ip_address("10.9.0.9"),)), "outside every pool"),
        (Wish((ip_address("10.1.0.9"),) * 2), "twice"),
    ):
        with pytest.raises(UsageError, match=words):
            check_wanted(POOLS, wish)


def annotated(**notes: str) -> Wish:
    annotations = {f"fairway/{name.replace('_', '-')}": text for name, text in notes.items()}
    return wish_of(AttachRequest("c", "/x", network="net", kubernetes=Kubernetes("ns", "pod-0", {}, annotations)))


def test_annotations_are_wishes():
    assert annotated() == Wish(kubernetes_namespace="ns", network="net")
    wish = annotated(pool="a, b", ip="10.0.0.5,fd00::5", ip_versions="6,4", sticky="true")
    assert wish.pools == ("a", "b")
    assert wish.addresses == (ip_address("10.0.0.5"), ip_address("fd00::5"))
    assert wish.versions == (4, 6)
    assert wish.sticky == "ns/pod-0"
    assert annotated(sticky="database").sticky == "ns/database"
    assert annotated(sticky="false").sticky == ""


def test_the_request_itself_has_precedence():
    known = Kubernetes("ns", "pod-0", {}, {"fairway/pool": "a", "fairway/sticky": "x"})
    wish = wish_of(AttachRequest("c", "/x", pools=("b",), sticky="key", kubernetes=known))
    assert (wish.pools, wish.sticky) == (("b",), "key")


@pytest.mark.parametrize("notes", [{"ip": "10.0.0"}, {"ip_versions": "5"}, {"sticky": "x" * 601}])
def test_an_annotation_that_makes_no_sense_is_named(notes):
    with pytest.raises(UsageError, match=f"fairway/{next(iter(notes)).replace('_', '-')}"):
        annotated(**notes)
