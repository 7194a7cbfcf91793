from __future__ import annotations

import sys
from pathlib import Path

for room in ("quic", "http/server", "agent", "tls"):
    sys.path.insert(0, str(Path(__file__).parent.parent / room))
