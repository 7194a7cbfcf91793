"""The agent: it takes the host over from whoever had it before, and keeps it until it is told to end."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import functools
import os
import signal
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping

from fairway import __version__
from fairway.net import cni
from fairway.net.agent import calls, metrics, protocol
from fairway.net.agent.calls import Answer, Call
from fairway.net.agent.config import Config, reloaded
from fairway.net.agent.keeper import Keeper
from fairway.net.agent.listener import Listener
from fairway.net.agent.log import say, set_up
from fairway.net.agent.peers.part import Part
from fairway.net.agent.protocol import Json, Progress
from fairway.net.agent.server import Server
from fairway.net.agent.systemd import Notifier
from fairway.net.agent.watchers import Watchers
from fairway.net.agent.worker import Worker
from fairway.net.host import Host, Identity
from fairway.net.kernel.events import Events
from fairway.net.model.errors import FairwayError
from fairway.net.model.operations import Failure, Operation

_STUCK_S = 60.0  # for as long as that no one thing takes; who watches over the agent may end it then
_SAID_AS = {
    "attach": "attached",
    "detach": "detached",
    "collect": "collected",
    "pod.add": "added",
    "pod.rm": "removed",
    "pod.take_in": "taken in",
    "pod.let_go": "let go",
    "pool.add": "pool added",
    "pool.rm": "pool removed",
    "route.add": "route added",
    "route.rm": "route removed",
    "policy.apply": "policies applied",
    "policy.rm": "policies removed",
}
_CNI_CALLS = frozenset(f"cni.{command}" for command in cni.COMMANDS)

_PEERS_SAY: Mapping[str, Callable[[Part], Awaitable[Json]]] = {"peers.ls": Part.peers, "routes.ls": Part.routes}
"""What is asked of the peers' part, and needs no turn of the worker's."""


class Agent:
    """One host's. `more` are calls besides those that every host has; with SIGHUP, what `read` returns holds."""

    def __init__(
        self,
        config: Config,
        identity: Identity | None = None,
        more: Mapping[str, Call] | None = None,
        read: Callable[[], Config] | None = None,
    ) -> None:
        self._config = config
        self._read = read
        self._identity = identity or Identity()
        self._calls = {**calls.CALLS, **(more or {})}
        self._worker = Worker()
        self._watchers = Watchers()
        self._server = Server(config.socket, self.dispatch, self._watchers.watch)
        self._notifier = Notifier()
        self._stopped = asyncio.Event()
        self._reload_asked = asyncio.Event()
        self._since = time.time()
        self._answered: Counter[tuple[str, str]] = Counter()
        self._seconds: dict[str, float] = {}
        self.ready = False
        self.host: Host
        self._keeper: Keeper
        self._peers: Part

    async def run(self) -> None:
        """Until SIGTERM, SIGINT or `stop`. FairwayError: it cannot begin."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop)
        if self._read is not None:
            loop.add_signal_handler(signal.SIGHUP, self._reload_asked.set)
        with _only_one(self._config):
            self.host = await self._worker.do(self._open)
            # Watched from before the look at everything, so that no change falls in between.
            events = await self._worker.do(self.host.events)
            try:
                await self._serve(events)
            finally:
                self.ready = False
                self._notifier.say("STOPPING=1")
                events.close()
                self._worker.close()
                await asyncio.to_thread(self.host.close)
                say("stopped")

    def stop(self) -> None:
        """End: what was begun is finished, the pods go on."""
        self._stopped.set()

    async def dispatch(self, call: str, arguments: Json, progress: Progress) -> Json:
        """Do one call; the answer comes when the interfaces that it ends are gone."""
        loop = asyncio.get_running_loop()
        started = time.monotonic()

        def threadsafe(done: int, total: int) -> None:
            loop.call_soon_threadsafe(progress, done, total)

        try:
            if call in _PEERS_SAY and self.ready:
                return await _PEERS_SAY[call](self._peers)
            answer = await self._worker.do(lambda: calls.do(self.host, call, arguments, threadsafe, self._calls))
            for name in answer.ending:
                await self._until_removed(name)
        except FairwayError as error:
            self._answered[call if call in self._calls else "unknown", "error"] += 1
            say("refused", level="warning", call=call, why=error.message)
            raise
        took = time.monotonic() - started
        self._answered[call, "ok"] += 1
        self._seconds[call] = self._seconds.get(call, 0.0) + took
        self._note(call, answer, took)
        if call == "status":
            return answer.document | self._own_status()
        if call in ("check", "repair"):
            return answer.document | await self._peers.findings()
        return answer.document

    @property
    def healthy(self) -> bool:
        """Whether it gets on with its work."""
        return self._worker.busy_s < _STUCK_S

    async def metrics(self) -> bytes:
        """What a scrape of Prometheus is answered."""
        status = await self.dispatch("status", {}, lambda *_: None)
        return metrics.render(status, self._answered, self._seconds)

    def _open(self) -> Host:
        host = Host(self._config.state, self._identity, touch_foreign_chains=not self._config.leave_foreign_chains)
        if host.corrupt is not None:
            say("state rebuilt", level="error", why=host.corrupt.message, pods=len(host.pods()))
        try:
            for pool in self._config.pools:
                host.pools.add(pool)
        except BaseException:
            host.close()
            raise
        return host

    async def _serve(self, events: Events) -> None:
        started = time.monotonic()
        found, failures = await self._worker.do(self.host.repair)
        self._say_taken_over(found, failures)
        self._keeper = Keeper(self.host, self._worker, self._config, events, self._watchers.tell)
        self._keeper.record.looked(time.monotonic() - started)
        peers = self._peers = Part(self.host, self._worker, self._config.peers)
        loop = asyncio.get_running_loop()
        # Other hosts hear of a pod while it is made here.
        self.host.watch_pods(
            lambda name, addresses: loop.call_soon_threadsafe(peers.pod_changed, name, addresses),
            lambda name, addresses: loop.call_soon_threadsafe(peers.pod_comes, name, addresses),
        )
        listener = Listener(self) if self._config.metrics else None
        runtimes = self._cni()
        await self._server.start()
        try:
            await runtimes.start()
            if listener is not None and self._config.metrics:
                await listener.start(*self._config.metrics)
            self.ready = True
            self._notifier.say("READY=1")
            say("ready", version=__version__, socket=self._config.socket)
            await self._until_stopped()
        finally:
            await runtimes.stop()
            await self._server.close()
            if listener is not None:
                await listener.close()

    def _cni(self) -> cni.Service:
        """What answers the container runtimes' plugin, in turn with all other calls."""
        return cni.Service(
            self.host,
            self._worker.do,
            self._until_removed,
            self._note_cni,
            socket=self._config.cni_socket,
            pending=self._config.cni_pending,
        )

    async def _until_stopped(self) -> None:
        """Whatever goes on beside the calls; one of them that ends by an error ends the agent."""
        parts = [
            asyncio.create_task(self._keeper.run()),
            asyncio.create_task(self._peers.run()),
            asyncio.create_task(self._notifier.watch(lambda: self.healthy)),
            asyncio.create_task(self._reload_when_asked()),
        ]
        stopped = asyncio.create_task(self._stopped.wait())
        try:
            done, _ = await asyncio.wait([*parts, stopped], return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in (*parts, stopped):
                task.cancel()
            await asyncio.gather(*parts, stopped, return_exceptions=True)

    async def _reload_when_asked(self) -> None:
        while True:
            await self._reload_asked.wait()
            self._reload_asked.clear()
            if self._read is not None:
                try:
                    await self._reload(self._read())
                except FairwayError as error:
                    say("not reloaded", level="error", why=error.message, mend=error.mend)

    async def _reload(self, new: Config) -> None:
        """Go on with what can be changed without an end, and say what cannot; no pool is taken away."""
        for pool in new.pools:
            await self._worker.do(functools.partial(self.host.pools.add, pool))
        self._config, later = reloaded(self._config, new)
        set_up(self._config.log_format, self._config.log_level)
        self._keeper.configure(self._config)
        level = "warning" if later else "info"
        say("reloaded", level=level, pools=len(new.pools), from_the_next_start=" ".join(later))

    async def _until_removed(self, name: str) -> None:
        loop = asyncio.get_running_loop()
        ended = asyncio.Event()

        def tell() -> None:
            loop.call_soon_threadsafe(ended.set)

        self.host.when_removed(name, tell)
        await ended.wait()

    def _say_taken_over(self, found: list[Operation], failures: list[Failure]) -> None:
        counts = self.host.counts()
        level = "warning" if failures else "info"
        say("taken over", level=level, pods=counts.pods, repaired=len(found) - len(failures), failed=len(failures))
        for failure in failures:
            say("not repaired", level="warning", why=failure.error.message, mend=failure.error.mend)

    def _note(self, call: str, answer: Answer, took: float) -> None:
        """Say what was changed, tell who watches, and let the keeper know."""
        event = _SAID_AS.get(call)
        if event is None:
            return
        document = answer.document
        pod = document.get("pod")
        if isinstance(pod, dict):
            self._keeper.settle([pod["interface"]])
            told = {"pod": pod["name"], "addresses": " ".join(pod["addresses"])}
        else:
            told = {"what": _brief(document)}
        say(event, **told, ms=round(took * 1e3, 1))
        self._watchers.tell({"event": event, **told})

    def _note_cni(self, request: cni.Request, done: cni.Done) -> None:
        """Say what a container runtime's call has changed, tell who watches, and let the keeper know."""
        variables, refused = request.environment, done.answer.exit_code != 0
        call = f"cni.{variables.get('CNI_COMMAND', '')}"
        self._answered[call if call in _CNI_CALLS else "unknown", "error" if refused else "ok"] += 1
        if refused:
            why = cni.message_of(done.answer)
            # A runtime asks for the status every few seconds, and says itself what it hears.
            level = "debug" if call == "cni.STATUS" else "warning"
            say("refused", level=level, call=call, container=variables.get("CNI_CONTAINERID"), why=why)
            return
        pod = done.added
        if pod is not None:
            self._keeper.settle([pod.link])
            told = {"pod": pod.name, "addresses": " ".join(map(str, pod.addresses))}
            say("attached", **told, trace=variables.get("TRACEPARENT"))
            self._watchers.tell({"event": "attached", **told})
        for name in done.ending:
            say("detached", pod=name)
            self._watchers.tell({"event": "detached", "pod": name})

    def _own_status(self) -> Json:
        record = self._keeper.record
        return {
            "agent": {
                "version": __version__,
                "protocol": protocol.VERSION,
                "pid": os.getpid(),
                "since": self._since,
                "ready": self.ready and self.healthy,
                "clients": self._server.clients,
                "waiting": self._worker.waiting,
                "repairs": self._config.repair,
                "repaired": dict(record.repaired),
                "failed": record.failed,
                "last_repair": record.last_repair,
                "overruns": record.overruns,
                "looks": record.looks,
                "last_look_s": record.last_look_s,
                "last_looked": record.last_looked,
            }
        }


def _brief(document: Json) -> str:
    """What a call's document is about, in a few words."""
    value = next(iter(document.values()), "")
    if isinstance(value, dict):
        return " ".join(str(each) for each in value.values() if isinstance(each, str) and each)
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


@contextlib.contextmanager
def _only_one(config: Config) -> Iterator[None]:
    """Keep any other agent from this host's state while the block lasts."""
    path = config.state / "agent.lock"
    try:
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise FairwayError(f"{path}: {error.strerror}", mend="run it as root; look for free space") from None
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            other = os.pread(handle, 32, 0).decode(errors="replace").strip()
            raise FairwayError(f"another agent (pid {other}) has {config.state}", mend="see: fairway status") from None
        with contextlib.suppress(OSError):  # a full disk: the number is for people only
            os.ftruncate(handle, 0)
            os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(handle)
