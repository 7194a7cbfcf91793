"""HTTP/3's decoders and whole connections, with any bytes: typed errors or none, and always progress."""

from __future__ import annotations

import contextlib

from fuzzing import Mutation, fuzz, mutate, mutation, varints
from http3_pair import GET, OK, POST
from hypothesis import given
from hypothesis import strategies as st
from raw_peers import SETTINGS, RawPeer, data, headers, section

from fairway.http3 import DEFAULT_SETTINGS, H3Code, Priority, Settings, frames
from fairway.http3.capsules import Capsule, CapsuleReader
from fairway.http3.errors import FieldsTooLargeError, Http3Error, MessageError
from fairway.http3.fields import check_request, check_response, check_trailers
from fairway.http3.limits import MAX_FIELD_LINES
from fairway.http3.qpack import FieldCoder, count_lines
from fairway.wire import encode_varint

SECTION = section([*GET, (b"user-agent", b"fuzz"), (b"cookie", b"x" * 200), (b"te", b"trailers")])
UNKNOWN = frames.encode(0x21, b"grease")

names = st.one_of(
    st.sampled_from([b":method", b":path", b":status", b":authority", b"host", b"content-length", b"te", b"priority"]),
    st.binary(max_size=12),
)
values = st.one_of(
    st.sampled_from([b"GET", b"CONNECT", b"/", b"200", b"103", b"5", b"https", b"a"]), st.binary(max_size=12)
)


@given(kind=st.sampled_from(sorted(frames.DECODERS)), payload=st.binary(max_size=200))
@fuzz
def test_any_payload_of_a_control_frame(kind: int, payload: bytes) -> None:
    with contextlib.suppress(Http3Error):
        frames.DECODERS[kind](payload)


@given(pairs=st.lists(st.tuples(varints, varints), max_size=80), mutations=st.lists(mutation, max_size=3))
@fuzz
def test_any_settings(pairs: list[tuple[int, int]], mutations: list[Mutation]) -> None:
    payload = b"".join(encode_varint(identifier) + encode_varint(value) for identifier, value in pairs)
    for change in mutations:
        payload = mutate(payload, *change)
    with contextlib.suppress(Http3Error):
        settings = Settings.decode(payload)
        assert Settings.decode(settings.encode()) == settings


@given(fields=st.lists(st.tuples(names, values), max_size=12))
@fuzz
def test_any_fields(fields: list[tuple[bytes, bytes]]) -> None:
    for check in (check_request, check_response, check_trailers):
        outcomes = []
        for _ in range(2):  # what is remembered changes no judgement
            try:
                outcomes.append(str(check(fields)))  # type: ignore[operator]
            except MessageError as error:
                outcomes.append(str(error))
        assert outcomes[0] == outcomes[1]


@given(
    steps=st.lists(
        st.tuples(st.booleans(), st.integers(0, 20), st.lists(mutation, max_size=3), st.binary(max_size=60)),
        max_size=12,
    )
)
@fuzz
def test_any_field_sections_and_instructions(steps: list[tuple[bool, int, list[Mutation], bytes]]) -> None:
    coder = FieldCoder(DEFAULT_SETTINGS)
    blocked: set[int] = set()
    with contextlib.suppress(Http3Error):
        for is_section, stream_id, mutations, other in steps:
            content = other or SECTION
            for change in mutations:
                content = mutate(content, *change)
            if not is_section:
                for ready in coder.feed_encoder(content):
                    blocked.discard(ready)
                    coder.resume(ready)
            elif stream_id not in blocked:
                assert count_lines(content, MAX_FIELD_LINES) <= MAX_FIELD_LINES + 1
                with contextlib.suppress(FieldsTooLargeError):
                    fields = coder.decode(stream_id, content)
                    if fields is None:
                        blocked.add(stream_id)
                    else:
                        assert len(fields) <= max(count_lines(content, MAX_FIELD_LINES), 0)


@given(value=st.binary(max_size=400))
@fuzz
def test_any_priority(value: bytes) -> None:
    priority = Priority.parse(value)
    assert 0 <= priority.urgency <= 7
    assert Priority.parse(priority.encode()) == priority


@given(pieces=st.lists(st.binary(max_size=200), max_size=20), mutations=st.lists(mutation, max_size=3))
@fuzz
def test_any_capsules(pieces: list[bytes], mutations: list[Mutation]) -> None:
    content = b"".join(Capsule(0x00, piece).encode() for piece in pieces)
    for change in mutations:
        content = mutate(content, *change)
    reader = CapsuleReader()
    with contextlib.suppress(MessageError):
        for at in range(0, len(content), 7):
            reader.feed(content[at : at + 7])


streams = st.tuples(
    st.sampled_from(["request", "control", "encoder", "decoder", "other"]),
    st.lists(mutation, max_size=4),
    st.sampled_from(["open", "end", "reset", "stop"]),
    st.integers(1, 400),
)


@given(from_client=st.booleans(), plan=st.lists(streams, min_size=1, max_size=6), datagram=st.binary(max_size=20))
@fuzz
def test_a_connection_meets_any_streams(
    from_client: bool, plan: list[tuple[str, list[Mutation], str, int]], datagram: bytes
) -> None:
    peer = RawPeer(client=from_client, settings=None)
    genuine = {
        "request": UNKNOWN + headers(POST if from_client else OK) + data(b"body") + UNKNOWN + headers([(b"a", b"b")]),
        "control": b"\0" + SETTINGS + UNKNOWN + frames.encode(frames.GOAWAY, b"\0"),
        "encoder": b"\x02\x3f\xe1\x1f\x43x-0\x01v\x00",
        "decoder": b"\x03\x40",
        "other": b"\x40\x54\x00" + datagram,
    }
    for what, mutations, end, size in plan:
        if peer.core.closing is not None:
            break
        content = genuine[what]
        for change in mutations:
            content = mutate(content, *change)
        if what != "request":
            stream_id = peer.open()
        elif from_client:
            stream_id = peer.open(unidirectional=False)
        elif peer.http.going_away:
            continue
        else:
            stream_id = peer.asked(GET)
        for at in range(0, len(content), size):
            if peer.core.closing is None:
                peer.core.write(stream_id, content[at : at + size], whole=True)
        if peer.core.closing is None:
            if end == "reset":
                peer.core.reset(stream_id, 7)
            elif end == "stop" and what == "request":
                peer.core.stop_sending(stream_id, 7)
            elif end == "end":
                peer.core.write(stream_id, b"", end=True)
        peer.pair.run_for(0.1)
        for _ in range(20):
            if not peer.http.read(stream_id):
                break
        peer.pair.run_for(0.1)
    closing = peer.closing
    if closing is not None:
        assert closing.application
        assert closing.code in H3Code.__members__.values()
        assert closing.code != H3Code.H3_INTERNAL_ERROR
