"""What goes wrong, for the person or the program that asked: a message, what mends it, an exit code."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
from collections.abc import Iterator, Sequence

import click

from fairway.net.model.errors import FairwayError, KernelError

INTERRUPTED = 130  # 128 and SIGINT's number, as shells have it

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")

_ROOT = "run it as root (sudo fairway ...); a lab works without: fairway up FILE"


def wants_json(arguments: Sequence[str]) -> bool:
    """Whether the command line asks for JSON, before a command of somebody else's begins."""
    own = arguments[: arguments.index("--")] if "--" in arguments else arguments
    return "--json" in own


@contextlib.contextmanager
def told(ctx: click.Context, *, as_json: bool) -> Iterator[None]:
    """Tell what was expected to go wrong on stderr and exit; what was not expected passes."""
    try:
        yield
    except FairwayError as error:
        problem = needs_root(error.message) if _denied(error) else error
        tell(problem.message, problem.mend, as_json)
        ctx.exit(problem.exit_code)
    except PermissionError as error:
        problem = needs_root(_words(error)) if os.geteuid() else FairwayError(_words(error))
        tell(problem.message, problem.mend, as_json)
        ctx.exit(problem.exit_code)
    except BrokenPipeError:
        raise  # click ends quietly
    except OSError as error:
        tell(_words(error), "", as_json)
        ctx.exit(1)
    except KeyboardInterrupt:
        click.echo(err=True)
        ctx.exit(INTERRUPTED)
    except click.UsageError as error:
        if not as_json:
            raise
        tell(error.format_message(), _help_of(error.ctx or ctx), as_json)
        ctx.exit(error.exit_code)


def needs_root(what: str = "") -> FairwayError:
    """The error of a command that was run without the right to do what it does."""
    return FairwayError(f"needs root: {what}" if what else "needs root", mend=_ROOT)


def warn(message: str) -> None:
    """Say on stderr what the reader should know though nothing failed."""
    click.secho(f"warning: {message}", err=True, fg="yellow")


def tell(message: str, mend: str, as_json: bool = False) -> None:
    """Say on stderr what went wrong and what mends it."""
    if as_json:
        click.echo(json.dumps({"error": {"message": message, "mend": mend}}, ensure_ascii=False), err=True)
        return
    click.secho(f"error: {_shown(message)}", err=True, fg="red")
    if mend:
        click.echo(f"  mend: {_shown(mend)}", err=True)


def _shown(text: str) -> str:
    """Text that may have a server's words in it, without what a terminal would obey."""
    return _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", text)


def _denied(error: FairwayError) -> bool:
    return isinstance(error, KernelError) and error.errno in (errno.EPERM, errno.EACCES) and os.geteuid() != 0


def _words(error: OSError) -> str:
    reason = error.strerror or str(error)
    return f"{error.filename}: {reason}" if error.filename else reason


def _help_of(ctx: click.Context) -> str:
    return f"see: {ctx.command_path} --help"
