"""What agent and clients say to each other, and what is made of nonsense."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairway.net.agent.arguments import Arguments
from fairway.net.agent.calls import CALLS, do
from fairway.net.agent.protocol import AnswerError, BusyError, decode_request, encode, error_document, read_error
from fairway.net.model.errors import (
    AttachedError,
    ExhaustedError,
    FairwayError,
    KernelError,
    NamespaceError,
    NotOursError,
    UsageError,
)

ERRORS = [
    FairwayError("a", mend="b"),
    UsageError("a", mend="b"),
    NamespaceError("a"),
    AttachedError("a"),
    NotOursError("a"),
    BusyError("a"),
    KernelError("a", 17, mend="b"),
    ExhaustedError("a", pools=("x", "y")),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_an_error_arrives_as_what_it_was(error):
    found = read_error(json.loads(json.dumps(error_document(error))))
    assert type(found) is type(error)
    assert (found.message, found.mend, found.exit_code) == (error.message, error.mend, error.exit_code)
    assert getattr(found, "errno", 0) == getattr(error, "errno", 0)
    assert getattr(found, "pools", ()) == getattr(error, "pools", ())


def test_an_error_of_a_class_that_clients_do_not_know_arrives_as_the_nearest_that_they_know():
    class SpecialError(UsageError):
        pass

    assert type(read_error(error_document(SpecialError("a")))) is UsageError
    assert type(read_error({"kind": "Later", "message": "a"})) is FairwayError
    assert type(read_error("nonsense")) is AnswerError


@given(st.binary(max_size=200))
def test_any_line_is_a_request_or_a_usage_error(line):
    try:
        _, call, arguments = decode_request(line)
    except UsageError:
        return
    assert isinstance(call, str)
    assert isinstance(arguments, dict)


def test_a_line_that_is_nested_beyond_reason_is_a_usage_error():
    with pytest.raises(UsageError):
        decode_request(b"[" * 100_000)


def test_what_is_sent_is_one_line_whatever_is_in_it():
    line = encode({"text": "a\nb\u2028ü"})
    assert line.count(b"\n") == 1
    assert json.loads(line) == {"text": "a\nb\u2028ü"}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
NAMES = [
    "container",
    "namespace",
    "addresses",
    "mtu",
    "kubernetes",
    "versions",
    "network",
    "valid",
    "names",
    "cooldown_s",
]


class Untouched:
    """A host that no call with wrong arguments gets to."""

    def __getattr__(self, name):
        raise UsageError("it got so far")


@given(st.sampled_from(sorted(CALLS)), st.dictionaries(st.sampled_from(NAMES) | st.text(max_size=5), JSON, max_size=5))
def test_no_argument_makes_a_call_fail_otherwise_than_by_a_usage_error(call, arguments):
    with pytest.raises(UsageError):
        do(Untouched(), call, arguments, lambda *_: None, CALLS)


def test_a_call_that_does_not_exist_is_told_those_that_do():
    with pytest.raises(UsageError, match="no call 'nonsense'") as caught:
        do(Untouched(), "nonsense", {}, lambda *_: None, CALLS)
    assert "pod.add" in caught.value.mend


@pytest.mark.parametrize(
    ("take", "value", "words"),
    [
        (lambda a: a.text("x"), 3, "'x' is to be text"),
        (lambda a: a.text("x"), "a" * (1 << 19), "'x' is to be text"),
        (lambda a: a.texts("x"), ["a", 1], "a list of texts"),
        (lambda a: a.addresses("x"), ["10.0.0"], "x: '10.0.0'"),
        (lambda a: a.number("x", most=5), 6, "from 0 to 5"),
        (lambda a: a.number("x"), True, "whole number"),
        (lambda a: a.numbers("x"), [True], "whole numbers"),
        (lambda a: a.flag("x"), 1, "true or false"),
        (lambda a: a.mapping("x"), {"a": 1}, "object of texts"),
        (lambda a: a.inner("x"), [], "an object"),
        (lambda a: a.pairs("x"), [["a"]], "pairs of texts"),
    ],
)
def test_an_argument_of_the_wrong_kind_is_named(take, value, words):
    with pytest.raises(UsageError, match=words):
        take(Arguments({"x": value}))


def test_an_argument_that_nobody_asked_for_is_named():
    arguments = Arguments({"a": "b", "c": "d"})
    arguments.text("a")
    with pytest.raises(UsageError, match="no argument 'c'"):
        arguments.finish()
