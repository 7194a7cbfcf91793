"""What the agent says: an event and its fields, as key=value for a person, or as a JSON object a line for a program.

The standard library's logging: what an agent says is little, and who embeds one has logging set up already.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from typing import Any

LOGGER = logging.getLogger("fairway.agent")

_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


def set_up(style: str, level: str) -> None:
    """Say it on stderr, in the style "text" or "json"."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Json() if style == "json" else _Text())
    LOGGER.handlers[:] = [handler]
    LOGGER.setLevel(_LEVELS[level])
    LOGGER.propagate = False


def say(event: str, *, level: str = "info", **fields: Any) -> None:
    """Say that something happened. Fields that are empty are left out."""
    shown = {name: value for name, value in fields.items() if value not in ("", None)}
    LOGGER.log(_LEVELS[level], event, extra={"fields": shown})


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        document = {"time": _time(record.created), "level": record.levelname.lower(), "event": record.getMessage()}
        if record.exc_info:
            document["exception"] = self.formatException(record.exc_info)
        return json.dumps(document | getattr(record, "fields", {}), default=str)


class _Text(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        fields = " ".join(f"{name}={_value(value)}" for name, value in getattr(record, "fields", {}).items())
        line = f"{_time(record.created)} {record.levelname.lower():<7} {record.getMessage()} {fields}".rstrip()
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


def _value(value: Any) -> str:
    text = str(value)
    plain = text and text.isprintable() and not any(c in text for c in ' "=')
    # What others say may hold what a terminal obeys, or what is no character at all.
    return text if plain else json.dumps(text, ensure_ascii=not text.isprintable())


def _time(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{int(seconds * 1000) % 1000:03}Z"
