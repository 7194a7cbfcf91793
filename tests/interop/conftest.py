from __future__ import annotations

import pytest

from certificates import Certificate, make_certificate


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    """A certificate for localhost."""
    return make_certificate(tmp_path_factory.mktemp("certificate"))
