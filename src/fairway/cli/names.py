"""Names for a shell to complete: whatever can be found out without a word of complaint."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import click
from click.shell_completion import CompletionItem

Complete = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]


def _quietly(find: Callable[[], list[str]], *, files: bool = False) -> Complete:
    """A completion of what `find` returns, and of files if asked; nothing if it fails, as nobody would see why."""

    def complete(_: click.Context, __: click.Parameter, incomplete: str) -> list[CompletionItem]:
        try:
            names = [name for name in find() if name.startswith(incomplete)]
        except Exception:
            names = []
        items = [CompletionItem(name) for name in names]
        return [*items, CompletionItem(incomplete, type="file")] if files else items

    return complete


def _place_names() -> list[str]:
    from fairway.cli.places import enter_labs, places

    enter_labs()
    found = list(places())
    count = Counter(place.name for place in found)
    return [place.name if count[place.name] == 1 else place.qualified for place in found]


def _lab_names() -> list[str]:
    from fairway.cli.places import enter_labs

    enter_labs()
    from fairway import lab

    return [each.name for each in lab.running()]


def _pod_names() -> list[str]:
    from fairway.cli.host import this_host

    with this_host() as host:
        return [pod.name for pod in host.pods()]


def _pools() -> list[str]:
    from fairway.cli.host import this_host

    with this_host() as host:
        return [str(pool.block) for pool in host.pools.all()]


def _routes() -> list[str]:
    from fairway.cli.host import this_host

    with this_host() as host:
        return [str(route.destination) for route in host.routes.all()]


complete_places = _quietly(_place_names)
complete_labs = _quietly(_lab_names)
complete_labs_and_files = _quietly(_lab_names, files=True)
complete_pods = _quietly(_pod_names)
complete_pools = _quietly(_pools)
complete_routes = _quietly(_routes)
