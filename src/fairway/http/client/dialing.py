"""What a client's connections have in common: TLS settings, sizes, and how long a handshake may take."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fairway.aio import QuicConfiguration, http3
from fairway.aio.happy_eyeballs import Resolve, resolve
from fairway.http.client.pool import Target
from fairway.http3 import ALPN
from fairway.quic import SessionStore
from fairway.tls import ClientConfig, Identity, KeyLog

_NAMES_KEPT = 256

CONFIGURATION = QuicConfiguration(stream_window=4 << 20, connection_window=8 << 20)


def dialer(
    *,
    verify: bool = True,
    ca: Any = None,
    identity: Identity | None = None,
    keylog: KeyLog | None = None,
    timeout: float = 10.0,
    resolve: Resolve = resolve,
    configuration: QuicConfiguration = CONFIGURATION,
    session_store: SessionStore | None = None,
) -> Callable[[Target], http3.connect]:
    """A pool's `dial`. Raises at once what is wrong with `ca`: `OSError`, `ValueError`.

    With a `session_store` sessions are resumed, and connections given before the handshake is complete where the
    server takes early data: `exchange.send` sees to it that only requests that may be replayed go out then.
    """
    settings: dict[str, ClientConfig] = {}

    def config(name: str) -> ClientConfig:
        known = settings.get(name)
        if known is None:
            if len(settings) >= _NAMES_KEPT:
                settings.clear()
            known = ClientConfig(name, (ALPN,), verify=verify, ca=ca, identity=identity, keylog=keylog)
            settings[name] = known
        return known

    config("localhost")

    def dial(target: Target) -> http3.connect:
        return http3.connect(
            target.host,
            target.port,
            tls=config(target.name),
            timeout=timeout,
            resolve=resolve,
            configuration=configuration,
            session_store=session_store,
            early_data=session_store is not None,
        )

    return dial
