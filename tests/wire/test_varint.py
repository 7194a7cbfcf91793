import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairway.wire import VARINT_MAX, WireError, decode_varint, encode_varint, varint_length


@pytest.mark.parametrize(
    ("encoded", "value"),
    [  # RFC 9000 appendix A.1
        ("c2197c5eff14e88c", 151_288_809_941_952_652),
        ("9d7f3e7d", 494_878_333),
        ("7bbd", 15_293),
        ("25", 37),
        ("4025", 37),
    ],
)
def test_the_samples_of_rfc_9000_appendix_a_1_decode(encoded: str, value: int) -> None:
    data = bytes.fromhex(encoded)
    assert decode_varint(data, 0) == (value, len(data))
    assert decode_varint(memoryview(b"\xff" + data + b"\xff"), 1) == (value, len(data) + 1)


@given(st.integers(0, VARINT_MAX), st.binary(max_size=4))
def test_an_integer_survives_the_round_trip_in_the_shortest_form(value: int, around: bytes) -> None:
    encoded = encode_varint(value)
    assert len(encoded) == varint_length(value)
    assert len(encoded) == 1 or value >= 1 << (8 * (len(encoded) // 2) - 2)
    assert decode_varint(around + encoded + around, len(around)) == (value, len(around) + len(encoded))


@pytest.mark.parametrize("value", [-1, VARINT_MAX + 1])
def test_an_integer_out_of_range_is_a_wire_error(value: int) -> None:
    with pytest.raises(WireError):
        encode_varint(value)
    with pytest.raises(WireError):
        varint_length(value)


@given(st.integers(0, VARINT_MAX), st.data())
def test_an_integer_cut_short_is_a_wire_error(value: int, data: st.DataObject) -> None:
    encoded = encode_varint(value)
    cut = encoded[: data.draw(st.integers(0, len(encoded) - 1))]
    with pytest.raises(WireError):
        decode_varint(cut, 0)
    with pytest.raises(WireError):
        decode_varint(memoryview(cut), 0)
