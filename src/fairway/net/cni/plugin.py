"""The plugin: what ADD, DEL, CHECK, GC, STATUS and VERSION do on a host, and what they answer."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from fairway.net.cni import call as calls
from fairway.net.cni import configuration as configurations
from fairway.net.cni import results
from fairway.net.cni.call import Call
from fairway.net.cni.codes import CniError, Code
from fairway.net.cni.configuration import Configuration
from fairway.net.cni.pending import Pending
from fairway.net.cni.versions import NEWEST, SUPPORTED
from fairway.net.cni.wire import Answer, Request
from fairway.net.host import Host
from fairway.net.model.attachment import AttachRequest, Kubernetes, attachment_name
from fairway.net.model.differences import words
from fairway.net.model.errors import (
    AttachedError,
    ExhaustedError,
    FairwayError,
    IncompleteError,
    NamespaceError,
    NotOursError,
    UsageError,
)
from fairway.net.model.pod import Pod
from fairway.net.model.pool import Wish

_LOG = logging.getLogger("fairway.agent.cni")  # said as the agent says its own


@dataclass(frozen=True, slots=True)
class Done:
    """A call that was answered: the answer; what was added; and whose links the kernel is still taking away."""

    answer: Answer
    added: Pod | None = None
    ending: tuple[str, ...] = ()


class Plugin:
    """CNI for one host. Calls are answered one after the other, by whoever may use the host."""

    def __init__(self, host: Host, pending: Pending | None = None) -> None:
        self._host = host
        self._pending = pending
        self._handlers: dict[str, Callable[[Call, Configuration], Done]] = {
            "ADD": self._add,
            "DEL": self._delete,
            "CHECK": self._check,
            "GC": self._collect,
            "STATUS": self._status,
        }

    def answer(self, request: Request) -> Done:
        """What the plugin's process puts out and ends with; nothing is raised."""
        version = configurations.read_version(request.stdin)
        try:
            call = calls.parse(request.environment)
            return self._handle(call, request.stdin)
        except CniError as error:
            return Done(failure(error, version))
        except Exception as error:  # a defect must not take the agent with it
            _LOG.exception("a call failed by a defect: %s", request.environment.get("CNI_COMMAND"))
            return Done(failure(CniError(Code.INTERNAL, f"{type(error).__name__}: {error}"), version))

    def drain(self) -> int:
        """Do the deletions that were accepted while there was no agent, to the end; returns how many there were."""
        if self._pending is None:
            return 0
        ending: list[str] = []

        def do(request: Request) -> Answer:
            done = self.answer(request)
            ending.extend(done.ending)
            return done.answer

        count = self._pending.drain(do)
        for name in ending:
            self._host.wait_removed(name)
        return count

    def _handle(self, call: Call, stdin: bytes) -> Done:
        if call.command == "VERSION":
            asked = configurations.read_version(stdin) or NEWEST
            return Done(_success({"cniVersion": asked, "supportedVersions": list(SUPPORTED)}))
        configuration = configurations.parse(stdin)
        if call.command != "DEL":
            # A container of a deletion that waits may come again, and its address may be the last one.
            self.drain()
        _LOG.debug("%s %s/%s %s", call.command, call.container, call.interface, call.trace)
        try:
            return self._handlers[call.command](call, configuration)
        except FairwayError as error:
            raise _told(error, call) from error

    def _add(self, call: Call, configuration: Configuration) -> Done:
        kubernetes = Kubernetes(
            call.args.get("K8S_POD_NAMESPACE", ""), call.args.get("K8S_POD_NAME", ""), calls.labels(configuration)
        )
        request = AttachRequest(
            call.container,
            call.namespace,
            call.interface,
            configuration.network,
            addresses=calls.wanted_addresses(call, configuration),
            pools=configuration.pools,
            mac=calls.wanted_mac(call, configuration),
            mtu=configuration.mtu,
            default_route=configuration.default_route,
            kubernetes=kubernetes,
            config=configuration.text,
        )
        result: dict[str, Any] = {}

        def tell(pod: Pod) -> str:
            result.update(results.added(pod, pod.mac, call.namespace, configuration))
            return json.dumps(result)

        pod = self._host.attachments.add(request, tell)
        return Done(_success(result), added=pod)

    def _delete(self, call: Call, _: Configuration) -> Done:
        self._host.attachments.remove(call.container, call.interface)
        return Done(Answer(0), ending=(attachment_name(call.container, call.interface),))

    def _check(self, call: Call, configuration: Configuration) -> Done:
        if configuration.previous is None:
            raise CniError(Code.INVALID_CONFIGURATION, "CHECK needs prevResult, and the configuration has none")
        pod = self._host.attachments.find(call.container, call.interface)
        told = results.addresses(configuration.previous)
        lost = [str(address) for address in pod.addresses if str(address) not in told]
        if lost:
            raise CniError(Code.DAMAGED, f"prevResult does not tell {', '.join(lost)}, which {pod.name} has")
        wrong = self._host.attachments.check(call.container, call.interface, call.namespace)
        if wrong:
            raise CniError(Code.DAMAGED, "; ".join(map(words, wrong[:5])))
        return Done(Answer(0))

    def _collect(self, _: Call, configuration: Configuration) -> Done:
        if configuration.valid is None:
            key = configurations.VALID_ATTACHMENTS[0]
            raise CniError(Code.INVALID_CONFIGURATION, f"GC needs {key}, and the configuration has none")
        gone = self._host.attachments.collect(configuration.valid, configuration.network)
        return Done(Answer(0), ending=tuple(pod.name for pod in gone))

    def _status(self, _: Call, configuration: Configuration) -> Done:
        self._host.pools.check_free(Wish(pools=configuration.pools, network=configuration.network))
        return Done(Answer(0))


_BY_COMMAND = {"CHECK": Code.DAMAGED, "STATUS": Code.UNAVAILABLE}
"""What any error of the host's means to these commands."""

_BY_ERROR: tuple[tuple[type[FairwayError], Code], ...] = (
    (NamespaceError, Code.INVALID_ENVIRONMENT),
    (AttachedError, Code.EXISTS),
    (NotOursError, Code.EXISTS),
    (IncompleteError, Code.INCOMPLETE),
    (ExhaustedError, Code.NO_ADDRESS),
    (UsageError, Code.INVALID_CONFIGURATION),
)
"""What it means to the others; the first that fits. Whatever is left is the kernel's refusal, or the disk's."""


def _told(error: FairwayError, call: Call) -> CniError:
    """An error of the host's as CNI has them."""
    by_error = next((code for kind, code in _BY_ERROR if isinstance(error, kind)), Code.REFUSED)
    # What is wrong with a variable is to be told with its name.
    message = f"CNI_NETNS: {error.message}" if isinstance(error, NamespaceError) else error.message
    return CniError(_BY_COMMAND.get(call.command, by_error), message, error.mend)


def _success(document: Mapping[str, object]) -> Answer:
    return Answer(0, json.dumps(document).encode() + b"\n")


def failure(error: CniError, version: str) -> Answer:
    """The answer that tells an error, in the version of the call if that is a supported one."""
    told: Mapping[str, object] = {
        "cniVersion": version if version in SUPPORTED else NEWEST,
        "code": int(error.code),
        "msg": error.message,
    } | ({"details": error.details} if error.details else {})
    return Answer(1, json.dumps(told).encode() + b"\n")
