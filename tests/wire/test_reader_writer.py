from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairway.wire import Reader, WireError, Writer

FIELDS = {
    "u8": st.integers(0, 0xFF),
    "u16": st.integers(0, 0xFFFF),
    "u24": st.integers(0, 0xFFFFFF),
    "u32": st.integers(0, 0xFFFFFFFF),
    "u64": st.integers(0, 0xFFFFFFFFFFFFFFFF),
    "varint": st.integers(0, (1 << 62) - 1),
    "vector8": st.binary(max_size=255),
    "vector16": st.binary(max_size=300),
    "vector24": st.binary(max_size=300),
}

field = st.sampled_from(sorted(FIELDS)).flatmap(lambda name: st.tuples(st.just(name), FIELDS[name]))


@given(st.lists(field, max_size=12), st.sampled_from([bytes, bytearray, memoryview]))
def test_what_is_written_is_read_back(
    fields: list[tuple[str, object]], kind: Callable[[bytes], bytes | bytearray | memoryview]
) -> None:
    writer = Writer()
    for name, value in fields:
        assert getattr(writer, name)(value) is writer
    reader = Reader(kind(writer.finish()))
    assert [getattr(reader, name)() for name, _ in fields] == [value for _, value in fields]
    assert reader.remaining == 0
    reader.finish()


@given(field, st.data())
def test_a_field_cut_short_is_a_wire_error(item: tuple[str, object], data: st.DataObject) -> None:
    name, value = item
    encoded = getattr(Writer(), name)(value).finish()
    length = data.draw(st.integers(0, len(encoded) - 1))
    with pytest.raises(WireError):
        getattr(Reader(encoded[:length]), name)()
    with pytest.raises(WireError):
        getattr(Reader(encoded, 0, length), name)()


@pytest.mark.parametrize(("name", "value"), [("u8", 256), ("u16", 1 << 16), ("u24", 1 << 24), ("u32", -1)])
def test_a_value_too_large_for_its_field_is_a_wire_error(name: str, value: int) -> None:
    with pytest.raises(WireError):
        getattr(Writer(), name)(value)


def test_a_vector_too_long_for_its_length_field_is_a_wire_error() -> None:
    with pytest.raises(WireError):
        Writer().vector8(bytes(256))


def test_bytes_left_over_are_a_wire_error() -> None:
    reader = Reader(b"\x01\x02")
    reader.u8()
    with pytest.raises(WireError):
        reader.finish()
    assert reader.rest() == b"\x02"
    reader.finish()


def test_a_negative_length_is_a_wire_error() -> None:
    with pytest.raises(WireError):
        Reader(b"abc", 2).take(-1)


@pytest.mark.parametrize(("offset", "end"), [(4, None), (-1, None), (2, 1), (0, 4)])
def test_a_part_outside_the_buffer_is_a_wire_error(offset: int, end: int | None) -> None:
    with pytest.raises(WireError):
        Reader(b"abc", offset, end)
