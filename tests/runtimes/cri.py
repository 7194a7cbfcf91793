"""Kubernetes' container runtime interface (package runtime.v1), as far as the tests need it.

The messages are written and read by tables of field numbers, so that nothing has to be compiled.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc

Table = dict[str, tuple[int, "str | Table"]]
"""A message: name -> (field number, kind). A kind in brackets repeats; a table is a message within."""

_METADATA: Table = {"name": (1, "text"), "uid": (2, "text"), "namespace": (3, "text"), "attempt": (4, "number")}
_PORT: Table = {"protocol": (1, "number"), "container_port": (2, "number"), "host_port": (3, "number")}
_SANDBOX: Table = {
    "metadata": (1, _METADATA),
    "hostname": (2, "text"),
    "log_directory": (3, "text"),
    "port_mappings": (5, _PORT),
    "linux": (8, {}),
}
_CONTAINER: Table = {
    "metadata": (1, {"name": (1, "text")}),
    "image": (2, {"image": (1, "text")}),
    "command": (3, "text"),
    "log_path": (11, "text"),
    "linux": (15, {}),
}
_REQUESTS: dict[str, Table] = {
    "RunPodSandbox": {"config": (1, _SANDBOX)},
    "StopPodSandbox": {"pod_sandbox_id": (1, "text")},
    "RemovePodSandbox": {"pod_sandbox_id": (1, "text")},
    "PodSandboxStatus": {"pod_sandbox_id": (1, "text")},
    "ListPodSandbox": {},
    "CreateContainer": {"pod_sandbox_id": (1, "text"), "config": (2, _CONTAINER), "sandbox_config": (3, _SANDBOX)},
    "StartContainer": {"container_id": (1, "text")},
    "ExecSync": {"container_id": (1, "text"), "cmd": (2, "text"), "timeout": (3, "number")},
    "Status": {},
}


@dataclass(slots=True)
class Sandbox:
    """A pod's sandbox: its ID, its configuration, and its addresses."""

    id: str
    config: dict[str, Any]
    addresses: list[str] = field(default_factory=list)


class Runtime:
    """A runtime behind its socket."""

    def __init__(self, socket: Path) -> None:
        self._channel = grpc.insecure_channel(f"unix://{socket}")

    def close(self) -> None:
        self._channel.close()

    def call(self, method: str, **request: Any) -> dict[int, list[Any]]:
        """The fields of the answer by their numbers; grpc.RpcError if there is none."""
        invoke = self._channel.unary_unary(
            f"/runtime.v1.RuntimeService/{method}",
            request_serializer=lambda message: _encode(_REQUESTS[method], message),
            response_deserializer=_decode,
        )
        return invoke(request, timeout=120)  # type: ignore[no-any-return]

    def is_network_ready(self) -> bool:
        """Whether the runtime has a network for pods; False while it does not answer."""
        try:
            (status,) = self.call("Status")[1]
        except grpc.RpcError:
            return False
        conditions = [_decode(data) for data in _decode(status)[1]]
        return any(c[1] == [b"NetworkReady"] and c.get(2) == [1] for c in conditions)

    def run_sandbox(self, name: str, ports: dict[int, int] | None = None) -> Sandbox:
        """A pod's sandbox, with its network; `ports` are host ports and the pod's."""
        mappings = [{"container_port": inner, "host_port": outer} for outer, inner in (ports or {}).items()]
        config = {
            "metadata": {"name": name, "uid": f"uid-{name}", "namespace": "tests"},
            "hostname": name,
            "log_directory": "/run/pod-logs",
            "port_mappings": mappings,
            "linux": {},
        }
        sandbox = Sandbox(self.call("RunPodSandbox", config=config)[1][0].decode(), config)
        sandbox.addresses = self.addresses(sandbox)
        return sandbox

    def addresses(self, sandbox: Sandbox) -> list[str]:
        """What the runtime says are the pod's addresses."""
        (status,) = self.call("PodSandboxStatus", pod_sandbox_id=sandbox.id)[1]
        network = _decode(_decode(status)[5][0])
        more = [_decode(entry)[1][0] for entry in network.get(2, [])]
        return [address.decode() for address in (*network[1], *more)]

    def start_container(self, sandbox: Sandbox, image: str, command: list[str]) -> str:
        """A container in the sandbox; returns its ID."""
        config = {
            "metadata": {"name": "main"},
            "image": {"image": image},
            "command": command,
            "log_path": f"{sandbox.id}.log",
            "linux": {},
        }
        created = self.call("CreateContainer", pod_sandbox_id=sandbox.id, config=config, sandbox_config=sandbox.config)
        container: str = created[1][0].decode()
        self.call("StartContainer", container_id=container)
        return container

    def execute(self, container: str, *command: str) -> tuple[int, str]:
        """A command in a container; its exit code and what it printed."""
        answer = self.call("ExecSync", container_id=container, cmd=list(command), timeout=20)
        printed = b"".join(answer.get(1, []) + answer.get(2, []))
        return answer.get(3, [0])[0], printed.decode()

    def remove_sandbox(self, sandbox_id: str) -> None:
        self.call("StopPodSandbox", pod_sandbox_id=sandbox_id)
        self.call("RemovePodSandbox", pod_sandbox_id=sandbox_id)

    def sandboxes(self) -> list[str]:
        """The IDs of all."""
        return [_decode(item)[1][0].decode() for item in self.call("ListPodSandbox").get(1, [])]


def _encode(table: Table, message: dict[str, Any]) -> bytes:
    parts = []
    for name, value in message.items():
        number, kind = table[name]
        for entry in value if isinstance(value, list) else [value]:
            if isinstance(entry, int):
                parts.append(_varint(number << 3) + _varint(entry))
            else:
                data = _encode(kind, entry) if isinstance(kind, dict) else entry.encode()
                parts.append(_varint(number << 3 | 2) + _varint(len(data)) + data)
    return b"".join(parts)


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def _decode(data: bytes) -> dict[int, list[Any]]:
    found: dict[int, list[Any]] = {}
    position = 0
    while position < len(data):
        key, position = _read_varint(data, position)
        if key & 7 == 0:
            value, position = _read_varint(data, position)
        else:
            length, position = _read_varint(data, position)
            value, position = data[position : position + length], position + length
        found.setdefault(key >> 3, []).append(value)
    return found


def _read_varint(data: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
