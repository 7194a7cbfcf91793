"""Content codings, undone piece by piece."""

from __future__ import annotations

import gzip

import brotli
import pytest

from fairway.http.client.decoding import PIECE, DecodingError, decoder

BODY = bytes(range(256)) * 10_000
PACKED = {"gzip": gzip.compress(BODY), "br": brotli.compress(BODY)}


def undone(coding: str, data: bytes, step: int) -> bytes:
    undo = decoder(coding)
    out = [piece for at in range(0, len(data), step) for piece in undo.decode(data[at : at + step])]
    undo.finish()
    return b"".join(out)


@pytest.mark.parametrize("step", [1, 1000, 1 << 20])
@pytest.mark.parametrize("coding", list(PACKED))
def test_a_body_comes_out_as_it_went_in_however_it_is_cut(coding: str, step: int) -> None:
    assert undone(coding, PACKED[coding], step) == BODY


def test_gzip_may_have_several_members() -> None:
    assert undone("gzip", gzip.compress(b"one ") + gzip.compress(b"two"), 7) == b"one two"


@pytest.mark.parametrize("coding", list(PACKED))
def test_a_body_that_is_cut_short_is_an_error(coding: str) -> None:
    with pytest.raises(DecodingError, match="cut short"):
        undone(coding, PACKED[coding][:-5], 100)


@pytest.mark.parametrize("coding", list(PACKED))
def test_what_is_not_in_the_coding_is_an_error(coding: str) -> None:
    with pytest.raises(DecodingError, match="is no"):
        undone(coding, b"\xff" * 1000, 100)


@pytest.mark.parametrize("coding", list(PACKED))
def test_a_bomb_comes_out_in_pieces_of_bounded_size(coding: str) -> None:
    bomb = {"gzip": gzip.compress, "br": brotli.compress}[coding](bytes(100 << 20))
    sizes = [len(piece) for piece in decoder(coding).decode(bomb)]
    assert sum(sizes) == 100 << 20
    assert max(sizes) <= 2 * PIECE


def test_a_coding_that_was_not_offered_is_an_error() -> None:
    with pytest.raises(DecodingError, match="zstd"):
        decoder("zstd")
