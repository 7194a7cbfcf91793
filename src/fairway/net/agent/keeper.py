"""Keeps the host as it should be: looks where the kernel's messages point, at settings often, at everything in turn.

A look at everything is made in slices, each a turn of the worker's, with a rest behind each: pods that are added
meanwhile seldom wait for one, and what the kernel tells is answered between them. Only where some of that was lost is
there no rest.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter, deque
from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass, field

from fairway.net.agent.config import Config
from fairway.net.agent.culprits import Named, culprit, program_of
from fairway.net.agent.log import say
from fairway.net.agent.suspicion import Suspicion
from fairway.net.agent.worker import Worker
from fairway.net.host import Host, Scope
from fairway.net.kernel.events import Events, OverrunError
from fairway.net.model import differences
from fairway.net.model.errors import FairwayError
from fairway.net.model.facts import ForeignChain
from fairway.net.model.operations import Failure, Operation

_SETTLING_S = 0.05  # one change seldom comes alone
_GATHERING_S = 0.5  # but is not waited for longer than this
_SLICE = 4  # pods
_REST = 4  # times as long as a slice took
_FEW = 512  # suspects; beyond that everything is looked at
_CALM, _CALM_S = 10, 2.0  # repairs and seconds: somebody who undoes each at once is not to keep two processes busy
_FIGHT_S = 2.0  # so much later is the next one
_OWN_S = 2.0  # for how long the kernel may go on telling of an interface that this process changed
_SAID_AGAIN_S = 600.0


@dataclass(slots=True)
class Record:
    """What the keeper has done: for the status and the metrics."""

    repaired: Counter[str] = field(default_factory=Counter)  # by kind of fact
    failed: int = 0
    overruns: int = 0
    looks: int = 0  # at everything
    last_look_s: float = 0.0  # how long it took
    last_looked: float = 0.0  # when: seconds since 1970
    last_repair: str = ""

    def looked(self, took_s: float) -> None:
        """Everything was looked at, and that took so long, rests not counted."""
        self.looks += 1
        self.last_look_s = took_s
        self.last_looked = time.time()


class Keeper:
    """One host's. `tell` is told each repair, as a document."""

    def __init__(
        self, host: Host, worker: Worker, config: Config, events: Events, tell: Callable[[dict[str, str]], None]
    ) -> None:
        self._host = host
        self._worker = worker
        self._config = config
        self._events = events
        self._tell = tell
        self.record = Record()
        self._suspicion = Suspicion()
        self._names: list[Named] = []
        self._overrun = False
        self._alarm = asyncio.Event()
        self._settled: dict[str, float] = {}  # interfaces that this process changed, and when
        self._recent: deque[float] = deque(maxlen=_CALM)
        self._said: dict[str, float] = {}
        self._foreign: tuple[tuple[ForeignChain, ...], int] = ((), 0)  # as `Host.foreign_rules` when they were right

    async def run(self) -> None:
        """Until cancelled."""
        loop = asyncio.get_running_loop()
        for number in self._events.filenos():
            loop.add_reader(number, self._read)
        try:
            settings = asyncio.create_task(self._watch_settings())
            try:
                await self._watch()
            finally:
                settings.cancel()
        finally:
            for number in self._events.filenos():
                loop.remove_reader(number)

    def settle(self, links: Iterable[str]) -> None:
        """This process has just changed these interfaces: what the kernel tells of them is no surprise."""
        now = time.monotonic()
        self._settled = {link: when for link, when in self._settled.items() if now - when < _OWN_S}
        self._settled.update((link, now) for link in links)

    def configure(self, config: Config) -> None:
        """Go on with this, and look at everything now."""
        self._config = config
        self._overrun = True
        self._alarm.set()

    async def look_at_everything(self, *, resting: bool = False) -> None:
        """Slice by slice, `resting` behind each or not; and free the addresses of what is gone."""
        started, rested = time.monotonic(), 0.0
        for pod in await self._worker.do(self._host.attachments.forget_gone):
            say("forgotten", pod=pod.name, why="its namespace is gone", addresses=" ".join(map(str, pod.addresses)))
        if await self._worker.do(self._host.strays):
            await self._mend(None)
        await self._mend(Scope(ground=True, guards=True, routes=True))
        names = await self._worker.do(lambda: [pod.name for pod in self._host.pods()])
        for start in range(0, len(names), _SLICE):
            begun = time.monotonic()
            await self._mend(Scope(pods=frozenset(names[start : start + _SLICE])))
            ended = time.monotonic()
            if resting:
                await self._answer_until(ended + _REST * (ended - begun))
                rested += time.monotonic() - ended
        self.record.looked(time.monotonic() - started - rested)

    async def _watch(self) -> None:
        while True:
            # Looking takes longer with many pods; it is not to become all that the agent does.
            pause = max(self._config.every_s, 50 * self.record.last_look_s) * random.uniform(0.9, 1.1)
            await self._answer_until(time.monotonic() + pause)
            lost, self._overrun = self._overrun, False
            await self._safely(self.look_at_everything(resting=not lost))

    async def _answer_until(self, deadline: float) -> None:
        """Look where there is reason to; until then, or until some of what the kernel told is lost."""
        while (left := deadline - time.monotonic()) > 0 and not self._overrun:
            try:
                async with asyncio.timeout(left):
                    await self._alarm.wait()
            except TimeoutError:
                return
            await self._settle_down()
            await self._answer()

    async def _settle_down(self) -> None:
        """Wait until no more is told, or long enough."""
        deadline = time.monotonic() + _GATHERING_S
        if len(self._recent) == _CALM and time.monotonic() - self._recent[0] < _CALM_S:
            await asyncio.sleep(_FIGHT_S)
        while self._alarm.is_set() and time.monotonic() < deadline:
            self._alarm.clear()
            await asyncio.sleep(_SETTLING_S)
        self._alarm.clear()

    async def _answer(self) -> None:
        """Look where there is reason to."""
        settled = self._just_settled()
        scope, self._suspicion = self._suspicion.scope(settled), Suspicion(self._suspicion.risen & settled)
        names, self._names = self._names, []
        if not scope:
            return
        if len(scope) > _FEW:
            self._overrun = True
            return
        await self._safely(self._mend(scope, names))

    async def _watch_settings(self) -> None:
        """What the kernel tells nothing of: most settings, and the tables of iptables-legacy."""
        while True:
            await asyncio.sleep(self._config.settings_every_s * random.uniform(0.9, 1.1))
            await self._safely(self._mend(Scope(ground=True)))
            await self._safely(self._look_at_foreign_chains())

    async def _look_at_foreign_chains(self) -> None:
        """Where something has changed since they were right; while they cannot be put right, each time."""
        if await self._worker.do(self._host.foreign_rules) != self._foreign and await self._mend(Scope(guards=True)):
            self._foreign = await self._worker.do(self._host.foreign_rules)

    async def _mend(self, scope: Scope | None, names: Sequence[Named] = ()) -> bool:
        """Look at `scope`, repair what is found if that is to be done, and say it; `names` are those seen at it.

        Whether all of it could be repaired.
        """

        def work() -> tuple[list[Operation], list[Failure]]:
            if self._config.repair:
                return self._host.repair(scope=scope)
            return self._host.check(scope), []

        found, failures = await self._worker.do(work)
        if found:
            self._recent.append(time.monotonic())
            self._say(found, failures, names or self._names)
        return not failures

    def _say(self, found: list[Operation], failures: list[Failure], names: Sequence[Named]) -> None:
        failed = {failure.operation: failure.error for failure in failures}
        for operation in found:
            words, who = differences.words(operation), culprit(operation.fact, names)
            error = failed.get(operation)
            kind = type(operation.fact).__name__.lower()
            done = "failed" if error is not None else "repaired" if self._config.repair else "found"
            self._tell({"event": done, "kind": kind, "what": words, "who": who})
            if error is not None:
                self.record.failed += 1
                self._say_once("not repaired", words, error, who)
            elif self._config.repair:
                self.record.repaired[kind] += 1
                self.record.last_repair = words
                say("repaired", what=words, who=who)
            else:
                self._say_once("drift", words, None, who)

    def _say_once(self, event: str, words: str, error: FairwayError | None, who: str) -> None:
        """Say it, and not again with every look."""
        now = time.monotonic()
        self._said = {text: when for text, when in self._said.items() if now - when < _SAID_AGAIN_S}
        if words not in self._said:
            self._said[words] = now
            why, mend = (error.message, error.mend) if error is not None else ("", "")
            say(event, level="warning", what=words, who=who, why=why, mend=mend)

    def _just_settled(self) -> frozenset[str]:
        now = time.monotonic()
        return frozenset(link for link, when in self._settled.items() if now - when < _OWN_S)

    async def _safely(self, work: Coroutine[None, None, object]) -> None:
        """One look that fails is said, and the next is made all the same."""
        try:
            await work
        except FairwayError as error:
            say("look failed", level="error", why=error.message, mend=error.mend)

    def _read(self) -> None:
        try:
            events = self._events.read()
        except OverrunError:
            self.record.overruns += 1
            self._overrun = True
            self._alarm.set()
            say("overrun", level="warning", why="the kernel told more than could be read; looking at everything")
            return
        suspicious = self._suspicion.add(events)
        # Who asked has often ended by the time that the drift is found, so the name is looked up now.
        self._names += [(event, program_of(event)) for event in suspicious[-_FEW:]]
        del self._names[:-_FEW]
        if suspicious:
            self._alarm.set()
