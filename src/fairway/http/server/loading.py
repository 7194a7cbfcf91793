"""Finds an application by its name: `module:attribute`."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

from fairway.http.server.asgi import Application


class ApplicationNotFoundError(Exception):
    """There is no such application: the message names module and attribute; `mend` says what to write."""

    def __init__(self, message: str, mend: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.mend = mend


def load_application(name: str, *, directory: Path | None = None, factory: bool = False) -> Application:
    """Import `module:attribute` (`:app` if left out), from `directory` first; call it if it is a `factory`.

    `ApplicationNotFoundError` if there is none. What the module itself raises passes.
    """
    module_name, _, attribute = name.partition(":")
    attribute = attribute or "app"
    if not module_name or not all(part.isidentifier() for part in module_name.split(".")):
        raise ApplicationNotFoundError(
            f"{name!r} names no application", "write MODULE:ATTRIBUTE, for example main:app for `app` in main.py"
        )
    where = str((directory or Path()).resolve())
    if where not in sys.path:
        sys.path.insert(0, where)
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not (module_name == error.name or module_name.startswith(error.name + ".")):
            raise  # it is there, and imports something that is not
        raise ApplicationNotFoundError(
            f"there is no module {error.name!r} in {where}", "run it there, or give --app-dir DIR"
        ) from error
    found: Any = module
    for part in attribute.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            raise ApplicationNotFoundError(
                f"the module {module_name!r} ({module.__file__}) has no attribute {attribute!r}",
                f"name the application in it: {module_name}:NAME",
            ) from None
    application: Application = found() if factory and callable(found) else found
    if not callable(application):
        raise ApplicationNotFoundError(f"{name} is no ASGI application: it cannot be called")
    return application
