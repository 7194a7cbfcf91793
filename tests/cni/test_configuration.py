"""What a runtime sends is checked: variables, configuration, requests; and every error names the place."""

from __future__ import annotations

import contextlib
import json
from ipaddress import ip_address
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairway.net.cni import call, configuration
from fairway.net.cni.codes import CniError, Code
from fairway.net.cni.wire import Answer, Request, decode_answer, decode_request, encode_answer, encode_request

VARIABLES = {
    "CNI_COMMAND": "ADD",
    "CNI_CONTAINERID": "c1",
    "CNI_NETNS": "/run/netns/c1",
    "CNI_IFNAME": "eth0",
}


def parsed(**keys: Any) -> configuration.Configuration:
    return configuration.parse(json.dumps({"cniVersion": "1.0.0", "name": "pods", "type": "fairway"} | keys).encode())


def refused(code: Code, **keys: Any) -> str:
    with pytest.raises(CniError) as error:
        parsed(**keys)
    assert error.value.code is code
    return f"{error.value.message} / {error.value.details}"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


class TestConfiguration:
    def test_the_least_that_is_one_has_a_version_and_a_name(self) -> None:
        found = parsed()
        assert (found.version, found.network, found.default_route, found.valid) == ("1.0.0", "pods", True, None)

    @pytest.mark.parametrize("text", [b"", b"  ", b"nonsense", b'{"cniVersion":', b"[]", b"7", b"[" * 100_000])
    def test_what_is_no_json_object_is_undecodable(self, text: bytes) -> None:
        with pytest.raises(CniError) as error:
            configuration.parse(text)
        assert error.value.code is Code.UNDECODABLE

    @pytest.mark.parametrize("version", ["0.3.1", "0.4.0", "1.0.0", "1.1.0"])
    def test_is_in_any_version_from_0_3_1_on(self, version: str) -> None:
        assert parsed(cniVersion=version).version == version

    @pytest.mark.parametrize("version", ["", "0.2.0", "2.0.0", "one"])
    def test_in_another_version_is_refused_with_the_list_of_versions(self, version: str) -> None:
        assert "0.3.1, 0.4.0, 1.0.0, 1.1.0" in refused(Code.INCOMPATIBLE_VERSION, cniVersion=version)

    @pytest.mark.parametrize("name", ["", "-a", "a/b", "a b", "../x"])
    def test_without_a_valid_name_is_refused(self, name: str) -> None:
        assert "name" in refused(Code.INVALID_CONFIGURATION, name=name)

    def test_an_unknown_key_is_refused_with_its_value_and_what_was_meant(self) -> None:
        told = refused(Code.UNSUPPORTED_FIELD, mtuu=1400)
        assert "mtuu: 1400" in told
        assert "is it mtu?" in told

    def test_keys_of_lists_and_of_cni_itself_are_known(self) -> None:
        parsed(cniVersions=["1.0.0"], disableCheck=False, capabilities={"ips": True}, **{"cni.dev/anything": 1})

    def test_an_ipam_plugin_is_refused_as_fairway_gives_the_addresses(self) -> None:
        assert "fairway pool" in refused(Code.UNSUPPORTED_FIELD, ipam={"type": "host-local"})
        assert parsed(ipam={}).network == "pods"

    @pytest.mark.parametrize("mtu", [67, 65536, "1500", True, -1, 1.5])
    def test_an_mtu_that_is_none_is_refused(self, mtu: object) -> None:
        assert "mtu" in refused(Code.INVALID_CONFIGURATION, mtu=mtu)

    @pytest.mark.parametrize(
        ("key", "value"),
        [("defaultRoute", 1), ("dns", []), ("args", "x"), ("runtimeConfig", [1]), ("prevResult", 3), ("pools", "a")],
    )
    def test_a_key_of_the_wrong_kind_is_named(self, key: str, value: object) -> None:
        assert refused(Code.INVALID_CONFIGURATION, **{key: value}).startswith(f"{key} is ")

    @pytest.mark.parametrize("key", ["cni.dev/valid-attachments", "cni.dev/attachments"])
    def test_gcs_list_is_read_under_both_names(self, key: str) -> None:
        assert parsed(**{key: [{"containerID": "c1", "ifname": "eth0"}]}).valid == {("c1", "eth0")}

    def test_gcs_list_under_its_right_name_has_precedence_even_when_it_is_empty(self) -> None:
        both = {"cni.dev/attachments": [{"containerID": "c1", "ifname": "eth0"}], "cni.dev/valid-attachments": []}
        assert parsed(**both).valid == frozenset()

    @pytest.mark.parametrize("value", ["c1", [1], [{"containerID": "c1"}], {"a": 1}])
    def test_gcs_list_that_is_none_is_refused(self, value: object) -> None:
        assert "valid-attachments" in refused(Code.INVALID_CONFIGURATION, **{"cni.dev/valid-attachments": value})

    @given(
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text(),
            lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        )
    )
    def test_whatever_json_comes_ends_in_a_configuration_or_a_cni_error(self, value: object) -> None:
        with_a_key = {"cniVersion": "1.0.0", "name": "pods", "dns": value, "cni.dev/attachments": value, "pools": value}
        for document in (value, with_a_key):
            with contextlib.suppress(CniError):
                configuration.parse(json.dumps(document).encode())


class TestCall:
    @pytest.mark.parametrize("missing", ["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"])
    @pytest.mark.parametrize("command", ["ADD", "CHECK"])
    def test_a_missing_variable_is_named(self, command: str, missing: str) -> None:
        with pytest.raises(CniError, match=missing) as error:
            call.parse(VARIABLES | {"CNI_COMMAND": command, missing: ""})
        assert error.value.code is Code.INVALID_ENVIRONMENT

    def test_del_needs_no_namespace(self) -> None:
        assert call.parse(VARIABLES | {"CNI_COMMAND": "DEL", "CNI_NETNS": ""}).namespace == ""

    @pytest.mark.parametrize("command", ["GC", "STATUS", "VERSION"])
    def test_what_is_of_no_container_needs_none(self, command: str) -> None:
        assert call.parse({"CNI_COMMAND": command}).command == command

    @pytest.mark.parametrize("command", ["", "add", "UPDATE"])
    def test_another_command_is_refused(self, command: str) -> None:
        with pytest.raises(CniError, match="CNI_COMMAND"):
            call.parse(VARIABLES | {"CNI_COMMAND": command})

    def test_cni_args_are_pairs_and_what_is_no_pair_is_left_out(self) -> None:
        found = call.parse(VARIABLES | {"CNI_ARGS": "IgnoreUnknown=1;K8S_POD_NAME=web=0;nonsense;"})
        assert found.args == {"IgnoreUnknown": "1", "K8S_POD_NAME": "web=0"}


class TestRequests:
    NO_ARGS = call.parse(VARIABLES)
    WITH_ARGS = call.parse(VARIABLES | {"CNI_ARGS": "IP=10.0.0.3,fd00::3;MAC=02:00:00:00:00:03"})

    def test_addresses_by_capability_have_precedence_over_args_and_these_over_variables(self) -> None:
        args = {"cni": {"ips": ["10.0.0.2"]}}
        by_capability = parsed(runtimeConfig={"ips": ["10.0.0.1/24"]}, args=args)
        assert call.wanted_addresses(self.WITH_ARGS, by_capability) == (ip_address("10.0.0.1"),)
        assert call.wanted_addresses(self.WITH_ARGS, parsed(args=args)) == (ip_address("10.0.0.2"),)
        assert call.wanted_addresses(self.WITH_ARGS, parsed()) == (ip_address("10.0.0.3"), ip_address("fd00::3"))
        assert call.wanted_addresses(self.NO_ARGS, parsed()) == ()

    @pytest.mark.parametrize("ips", ["10.0.0.1", ["10.0.0.300"], [7], {"a": 1}])
    def test_addresses_that_are_none_are_refused_with_their_place(self, ips: object) -> None:
        with pytest.raises(CniError, match=r"runtimeConfig\.ips"):
            call.wanted_addresses(self.NO_ARGS, parsed(runtimeConfig={"ips": ips}))

    def test_a_mac_comes_by_capability_or_by_variable(self) -> None:
        assert call.wanted_mac(self.NO_ARGS, parsed(runtimeConfig={"mac": "02:00:00:00:00:01"})) == "02:00:00:00:00:01"
        assert call.wanted_mac(self.WITH_ARGS, parsed()) == "02:00:00:00:00:03"
        with pytest.raises(CniError, match=r"runtimeConfig\.mac"):
            call.wanted_mac(self.NO_ARGS, parsed(runtimeConfig={"mac": 7}))

    def test_labels_are_those_that_are_pairs_of_words(self) -> None:
        labels = [{"key": "app", "value": "web"}, {"key": 1, "value": "x"}, "nonsense"]
        assert call.labels(parsed(args={"cni": {"labels": labels}})) == {"app": "web"}
        assert call.labels(parsed(args={"cni": "nonsense"})) == {}


class TestWire:
    NAMES = st.text(st.characters(exclude_characters="=\0", exclude_categories=["Cs"]), min_size=1)
    VALUES = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))

    @given(st.dictionaries(NAMES, VALUES), st.binary())
    def test_a_request_is_read_as_it_was_written(self, environment: dict[str, str], stdin: bytes) -> None:
        request = Request(environment, stdin)
        assert decode_request(encode_request(request)) == request

    @given(st.binary())
    def test_whatever_bytes_come_are_a_request_or_a_value_error(self, data: bytes) -> None:
        with contextlib.suppress(ValueError):
            decode_request(data)

    @given(st.integers(0, 255), st.binary())
    def test_an_answer_is_read_as_it_was_written(self, exit_code: int, stdout: bytes) -> None:
        assert decode_answer(encode_answer(Answer(exit_code, stdout))) == Answer(exit_code, stdout)

    def test_an_answer_that_was_cut_off_is_none(self) -> None:
        whole = encode_answer(Answer(0, b"{}"))
        for length in range(len(whole)):
            with pytest.raises(ValueError, match=r"cut off|invalid literal"):
                decode_answer(whole[:length])
