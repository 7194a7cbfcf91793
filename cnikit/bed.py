"""What a case works with: a host with a line to the outside, containers, and the plugin under test called on them."""

from __future__ import annotations

import itertools
import json
import subprocess
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cnikit import kernel
from cnikit.call import Reply, call
from cnikit.case import BehaviourError, NotApplicableError, expect
from cnikit.isolation import KitError
from cnikit.profile import Profile, Variant

OUTSIDE = "outside"
"""The namespace of the world beyond the host, which routes everything back by way of the host."""

HOST_ADDRESS, OUTSIDE_ADDRESS = "192.0.2.1", "192.0.2.2"  # RFC 5737
HOST_ADDRESS6, OUTSIDE_ADDRESS6 = "2001:db8:2::1", "2001:db8:2::2"  # RFC 3849

NETWORK = "kit"


@dataclass(slots=True)
class Container:
    """A network namespace of the kit's, as a runtime makes one; `ifname` is what its interface is to be called."""

    id: str
    namespace: str
    ifname: str = "eth0"

    @property
    def netns(self) -> str:
        """CNI_NETNS."""
        return f"/run/netns/{self.namespace}"

    def again(self, ifname: str) -> Container:
        """The same container, for another interface of it."""
        return Container(self.id, self.namespace, ifname)


@dataclass(slots=True)
class Attachment:
    """A container that was added, and the Result."""

    container: Container
    result: dict[str, Any]

    @property
    def addresses(self) -> list[str]:
        """The container's addresses, without prefix lengths, as the Result tells them."""
        return [str(entry["address"]).split("/")[0] for entry in self.result.get("ips", [])]

    @property
    def address(self) -> str:
        """The first of them."""
        expect(self.addresses, f"the Result has no address: {self.result}")
        return self.addresses[0]

    @property
    def host_links(self) -> list[str]:
        """The links on the host that the Result tells of."""
        return [entry["name"] for entry in self.result.get("interfaces", []) if not entry.get("sandbox")]


class Bed:
    """One case's world. It is made inside the case's own namespaces, and goes with them."""

    def __init__(self, profile: Profile, version: str) -> None:
        self.profile = profile
        self.version = version
        self.config = profile.config
        self._daemon_command = profile.daemon
        self._daemon: subprocess.Popen[bytes] | None = None
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        self._make_outside()
        for path, text in profile.files.items():
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            Path(path).write_text(text)

    # The world

    def _make_outside(self) -> None:
        kernel.batch(f"netns add {OUTSIDE}\nlink add uplink type veth peer name line netns {OUTSIDE}\n")
        here = (
            f"addr add {HOST_ADDRESS}/24 dev uplink\naddr add {HOST_ADDRESS6}/64 dev uplink nodad\nlink set uplink up\n"
        )
        there = (
            f"addr add {OUTSIDE_ADDRESS}/24 dev line\naddr add {OUTSIDE_ADDRESS6}/64 dev line nodad\nlink set line up\n"
        )
        # Addresses that the kernel would make by itself come late, and would look like something left behind.
        here, there = (
            f"link set {name} addrgenmode none\n{rest}" for name, rest in (("uplink", here), ("line", there))
        )
        kernel.batch(there + "link set lo up\n", OUTSIDE)
        kernel.batch(here + f"route add default via {OUTSIDE_ADDRESS}\nroute add default via {OUTSIDE_ADDRESS6}\n")
        kernel.batch(f"route add default via {HOST_ADDRESS}\nroute add default via {HOST_ADDRESS6}\n", OUTSIDE)

    def container(self, ifname: str = "eth0") -> Container:
        """A new container, with its `lo` up."""
        with self._lock:
            number = next(self._numbers)
        name = f"c{number}"
        kernel.batch(f"netns add {name}\n")
        kernel.batch("link set lo up\n", name)
        return Container(f"kit-container-{number:04}", name, ifname)

    def containers(self, count: int) -> list[Container]:
        """Several new containers."""
        return [self.container() for _ in range(count)]

    def vanish(self, container: Container) -> None:
        """The container's namespace goes away, and the links in it with it, as on a crash or a reboot."""
        kernel.batch(f"netns del {container.namespace}\n")

    def start_daemon(self) -> None:
        """Start the plugin's daemon, if it has one, and wait until it is ready."""
        daemon = self._daemon_command
        if daemon is None:
            return
        log = open("/run/cnikit-daemon.log", "ab")  # noqa: SIM115 (the daemon's own, until it ends)
        self._daemon = subprocess.Popen(daemon.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        process = self._daemon
        ended = not kernel.eventually(lambda: daemon.ready.exists() or process.poll() is not None, 15)
        if ended or process.poll() is not None:
            told = Path(log.name).read_text()[-400:]
            raise KitError(f"the plugin's daemon did not become ready: {' '.join(daemon.command)}: {told}")

    def stop_daemon(self) -> None:
        """Kill the daemon, as an accident would."""
        if self._daemon is None or self._daemon_command is None:
            raise NotApplicableError("the plugin has no daemon")
        self._daemon.kill()
        self._daemon.wait()
        self._daemon_command.ready.unlink(missing_ok=True)

    def use_scarce(self) -> int:
        """Go over to the network with few addresses; returns how many."""
        scarce = self.profile.scarce
        if scarce is None:
            raise NotApplicableError("no configuration with few addresses is known for this plugin")
        self._use(scarce)
        return scarce.addresses

    def use_dual(self) -> None:
        """Go over to the network that gives IPv4 and IPv6 addresses."""
        if self.profile.dual is None:
            raise NotApplicableError("no configuration with IPv4 and IPv6 is known for this plugin")
        self._use(self.profile.dual)

    def _use(self, variant: Variant) -> None:
        self.config = variant.config
        if variant.daemon is not None:
            if self._daemon is not None:
                self.stop_daemon()
            self._daemon_command = variant.daemon
            self.start_daemon()

    def require_capability(self, name: str) -> None:
        """The case applies only to a plugin with that capability."""
        if name not in self.profile.capabilities:
            raise NotApplicableError(f"the plugin does not have the capability {name}")

    # The plugin

    def request(self, **changes: Any) -> dict[str, Any]:
        """The configuration as a runtime derives it (SPEC 3, Deriving request configuration); None takes a key away."""
        whole = {"cniVersion": self.version, "name": NETWORK, "type": self.profile.program.name} | self.config | changes
        return {key: value for key, value in whole.items() if value is not None}

    def environment(self, command: str, container: Container | None) -> dict[str, str]:
        """The environment as a runtime gives it."""
        found = {"CNI_COMMAND": command, "CNI_PATH": self.profile.search_path}
        if container is not None:
            found |= {
                "CNI_CONTAINERID": container.id,
                "CNI_NETNS": container.netns,
                "CNI_IFNAME": container.ifname,
            }
        return found

    def call(
        self,
        command: str,
        container: Container | None = None,
        *,
        stdin: bytes | None = None,
        environment: dict[str, str] | None = None,
        without: Iterable[str] = (),
        kill_after: float | None = None,
        **changes: Any,
    ) -> Reply:
        """Run the plugin. `changes` go into the configuration, `environment` and `without` change the variables."""
        variables = self.environment(command, container) | (environment or {})
        for name in without:
            variables.pop(name, None)
        data = json.dumps(self.request(**changes)).encode() if stdin is None else stdin
        return call(self.profile.program, variables, data, kill_after=kill_after)

    def add(self, container: Container | None = None, **options: Any) -> Attachment:
        """ADD, which must succeed. Without a container, a new one."""
        container = container or self.container()
        return Attachment(container, self.call("ADD", container, **options).succeeded().object())

    def add_many(self, count: int) -> list[Attachment]:
        """Several, one after the other."""
        return [self.add() for _ in range(count)]

    def add_beside(self, attachment: Attachment) -> Attachment:
        """A second interface, `net1`, of a container. Whether a plugin can do that is a case of its own."""
        container = attachment.container.again("net1")
        reply = self.call("ADD", container)
        if reply.exit_code:
            raise NotApplicableError("the plugin does not give a container a second interface")
        return Attachment(container, reply.object())

    def delete(self, attachment: Attachment, **options: Any) -> Reply:
        """DEL as a runtime does it: with the Result where the version passes it. It must succeed."""
        return self.call("DEL", attachment.container, **self._previous(attachment), **options).succeeded()

    def check(self, attachment: Attachment, **options: Any) -> Reply:
        """CHECK with the Result; whatever comes of it."""
        return self.call("CHECK", attachment.container, **({"prevResult": attachment.result} | options))

    def collect(self, valid: Sequence[Attachment], **options: Any) -> Reply:
        """GC of everything but `valid`, the list under both names, as libcni sends it."""
        listed = [{"containerID": one.container.id, "ifname": one.container.ifname} for one in valid]
        both = {"cni.dev/valid-attachments": listed, "cni.dev/attachments": listed}
        return self.call("GC", **(both | options))

    def _previous(self, attachment: Attachment) -> dict[str, Any]:
        # 0.4.0 introduced prevResult on DEL.
        return {} if self.version == "0.3.1" else {"prevResult": attachment.result}

    def together(self, work: Callable[[Container], Reply], containers: Sequence[Container]) -> list[Reply]:
        """Do the same to several containers at once."""
        with ThreadPoolExecutor(len(containers)) as pool:
            return list(pool.map(work, containers))

    def free_addresses(self, expected: int) -> None:
        """Prove that exactly `expected` addresses are free: so many more containers can be added, and no one more."""
        added = []
        for number in range(expected):
            container = self.container()
            reply = self.call("ADD", container)
            if reply.exit_code:
                raise BehaviourError(f"{expected} addresses should be free, and {number} were: {reply.error()['msg']}")
            added.append(Attachment(container, reply.object()))
        for attachment in added:
            self.delete(attachment)


def nothing_more_than(before: dict[str, set[str]]) -> None:
    """Prove that the host has nothing that it had not then, give or take the moment that the kernel needs."""
    clean = kernel.eventually(lambda: not kernel.left_over(before, kernel.snapshot()))
    expect(clean, f"left behind: {kernel.left_over(before, kernel.snapshot())}")
