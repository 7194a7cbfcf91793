"""Key shares made ahead: each for one connection, and none in vain."""

from __future__ import annotations

import os

from fairway.tls.key_exchange import KeyShares, NamedGroup

GROUPS = (NamedGroup.X25519,)


def _share(shares: KeyShares) -> bytes:
    return shares.take(os.urandom)[NamedGroup.X25519].share


class TestKeyShares:
    def test_nothing_is_made_ahead_for_a_single_connection(self) -> None:
        shares = KeyShares(GROUPS)
        assert not shares.prepare(os.urandom)
        _share(shares)
        assert not shares.prepare(os.urandom)
        _share(shares)
        assert shares.prepare(os.urandom)

    def test_what_is_made_ahead_is_given_once(self) -> None:
        shares = KeyShares(GROUPS)
        _share(shares), _share(shares)
        drawn: list[bytes] = []

        def counted(length: int) -> bytes:
            drawn.append(os.urandom(length))
            return drawn[-1]

        assert shares.prepare(counted)
        assert not shares.prepare(counted)
        made = len(drawn)
        first = shares.take(counted)
        assert len(drawn) == made  # nothing was left to make
        second = shares.take(counted)
        assert len(drawn) == 2 * made
        assert first[NamedGroup.X25519].share != second[NamedGroup.X25519].share

    def test_what_was_forgotten_is_not_given(self) -> None:
        known: list[bytes] = []

        def random(length: int) -> bytes:
            known.append(os.urandom(length))
            return known[-1]

        shares = KeyShares(GROUPS)
        _share(shares), _share(shares)
        shares.prepare(random)
        shares.forget()
        again = KeyShares(GROUPS).take(lambda length: known[-1])[NamedGroup.X25519].share
        assert _share(shares) != again
