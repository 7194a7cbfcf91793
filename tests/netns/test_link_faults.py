"""Links with faults as relays: real namespaces, real packets."""

import contextlib
import os
import random
import re
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fairway.lab.faults import Relay, find_relays, relay_matches, start_relay, stop_relay
from fairway.lab.model import Faults
from fairway.net.kernel.namespaces import inside
from fairway.net.model.errors import FairwayError

pytestmark = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="needs root")]

PREFIX = "fwt-relay-"
MINE = f"{PREFIX}{os.getpid()}-"
UDP_SEGMENT = 103  # linux/udp.h


def ip(words: str, check: bool = True) -> str:
    result = subprocess.run(["ip", *words.split()], capture_output=True, text=True, check=False)
    assert not check or result.returncode == 0, f"ip {words}: {result.stderr}"
    return result.stdout


def sweep(whose: Callable[[str], bool]) -> None:
    for relay in find_relays(PREFIX):
        if whose(relay.namespace):
            stop_relay(relay)
    with contextlib.suppress(FileNotFoundError):
        for name in os.listdir("/run/netns"):
            if name.startswith(PREFIX) and whose(name):
                ip(f"netns delete {name}", check=False)


def is_stale(namespace: str) -> bool:
    return not Path(f"/proc/{namespace.removeprefix(PREFIX).partition('-')[0]}").exists()


def until(what: Callable[[], bool], seconds: float = 30) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if what():
            return True
        time.sleep(0.02)
    return what()


class Segment:
    """Members 0, 1, ... with addresses 10.9.0.1, fd09::1 and so on, and the namespace of the link between them."""

    def __init__(self, members: int) -> None:
        self.namespace = f"{MINE}link"
        self.ports = [f"p{number}" for number in range(members)]
        ip(f"netns add {self.namespace}")
        for number in range(members):
            name = self.member(number)
            ip(f"netns add {name}")
            self.plug(number)

    def member(self, number: int) -> str:
        return f"{MINE}{number}"

    def plug(self, number: int) -> None:
        name = self.member(number)
        ip(f"link add e0 netns {name} type veth peer name p{number} netns {self.namespace}")
        ip(f"-n {name} address add 10.9.0.{number + 1}/24 dev e0")
        ip(f"-n {name} address add fd09::{number + 1}/64 dev e0 nodad")
        ip(f"-n {name} link set e0 up")
        ip(f"-n {self.namespace} link set p{number} up")

    def introduce(self, one: int, other: int) -> None:
        """Tell two members each other's MAC addresses, so that no lost ARP is in the count."""
        for member, peer in ((one, other), (other, one)):
            mac = ip(f"-n {self.member(peer)} -br link show e0").split()[2]
            ip(f"-n {self.member(member)} neighbour replace 10.9.0.{peer + 1} lladdr {mac} dev e0")

    def start(self, **faults) -> Relay:
        return start_relay(self.namespace, self.ports, Faults(**faults), title="a test's link")

    def ping(self, words: str, source: int = 0) -> str:
        command = ["ip", "netns", "exec", self.member(source), "ping", "-n", "-q", *words.split()]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout

    def received(self, words: str, source: int = 0) -> int:
        found = re.search(r"(\d+) received", self.ping(words, source))
        return int(found[1]) if found else 0

    def frames_into(self, member: int) -> int:
        path = "/sys/class/net/e0/statistics/rx_packets"
        command = ["ip", "netns", "exec", self.member(member), "cat", path]
        return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    def receiver(self, member: int) -> socket.socket:
        def bound() -> socket.socket:
            result = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            result.setsockopt(socket.SOL_SOCKET, 33, 16 << 20)  # SO_RCVBUFFORCE
            result.bind(("", 4000))
            result.settimeout(1)
            return result

        return inside(self.member(member), bound)

    def sender(self, member: int, target: int) -> socket.socket:
        def connected() -> socket.socket:
            result = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            result.connect((f"10.9.0.{target + 1}", 4000))
            return result

        return inside(self.member(member), connected)


def drain(receiver: socket.socket) -> list[tuple[float, bytes]]:
    got = []
    with contextlib.suppress(TimeoutError):
        while True:
            data = receiver.recv(65536)
            got.append((time.monotonic(), data))
    return got


@pytest.fixture(scope="module", autouse=True)
def _no_stale_leftovers() -> Iterator[None]:
    sweep(is_stale)
    yield
    sweep(lambda name: name.startswith(MINE))


@pytest.fixture
def segment() -> Iterator[Callable[[int], Segment]]:
    try:
        yield Segment
    finally:
        sweep(lambda name: name.startswith(MINE))


class TestFaults:
    def test_a_round_trip_takes_the_delay_of_both_ways(self, segment):
        link = segment(2)
        link.start(delay_ms=10)
        link.ping("-c 1 10.9.0.2")
        least = float(re.search(r"= ([\d.]+)/", link.ping("-c 20 -i 0.02 10.9.0.2"))[1])
        assert 20.0 <= least < 25

    def test_ipv6_and_its_neighbour_discovery_pass(self, segment):
        link = segment(2)
        link.start(delay_ms=1)
        assert link.received("-6 -c 5 -i 0.02 fd09::2") == 5

    def test_packets_are_lost_each_way_in_the_share_asked_for(self, segment):
        link = segment(2)
        link.start(loss=0.2)
        link.introduce(0, 1)
        assert 520 < link.received("-c 1000 -i 0.002 10.9.0.2") < 760  # 0.8 * 0.8 = 0.64

    def test_a_super_frame_loses_packets_and_not_itself(self, segment):
        link = segment(2)
        link.start(delay_ms=1, loss=0.3)
        link.introduce(0, 1)
        with link.receiver(1) as receiver, link.sender(0, 1) as sender:
            sender.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, 1000)
            payloads = {
                burst * 40 + n: random.Random(burst * 40 + n).randbytes(996) for n in range(40) for burst in range(20)
            }
            for burst in range(20):
                sender.send(b"".join(struct.pack("!I", burst * 40 + n) + payloads[burst * 40 + n] for n in range(40)))
            got = {struct.unpack_from("!I", data)[0]: data[4:] for _, data in drain(receiver)}
        assert all(payloads[number] == data for number, data in got.items())
        bursts = [sum(number // 40 == burst for number in got) for burst in range(20)]
        assert 400 < len(got) < 680  # of 800, 0.7
        assert sum(0 < count < 40 for count in bursts) > 15

    def test_the_rate_holds_packets_back_and_a_full_queue_drops_its_tail(self, segment):
        link = segment(2)
        link.start(rate_bps=8_000_000)
        link.introduce(0, 1)
        with link.receiver(1) as receiver, link.sender(0, 1) as sender:
            for number in range(1000):
                sender.send(struct.pack("!I", number) + bytes(954))  # 1000 bytes with its headers: 1 ms
            got = drain(receiver)
        numbers = [struct.unpack_from("!I", data)[0] for _, data in got]
        assert numbers == sorted(numbers)
        assert numbers[:50] == list(range(50))
        assert 90 <= len(got) < 900
        assert got[-1][0] - got[0][0] > 0.08

    def test_tcp_survives_delay_jitter_loss_and_rate_together_with_its_bytes_intact(self, segment):
        link = segment(2)
        link.start(delay_ms=2, jitter_ms=1, loss=0.005, rate_bps=200_000_000)
        sent = random.Random(3).randbytes(4_000_000)
        got = bytearray()

        def listening() -> socket.socket:
            return socket.create_server(("10.9.0.2", 4001))

        def receive(server: socket.socket) -> None:
            connection, _ = server.accept()
            with connection:
                while data := connection.recv(1 << 20):
                    got.extend(data)

        with inside(link.member(1), listening) as server:
            thread = threading.Thread(target=receive, args=(server,), daemon=True)
            thread.start()
            with inside(link.member(0), lambda: socket.create_connection(("10.9.0.2", 4001), 20)) as client:
                client.sendall(sent)
            thread.join(60)
        assert bytes(got) == sent

    def test_a_vlan_tag_passes(self, segment):
        link = segment(2)
        link.start(delay_ms=1)

        def raw() -> socket.socket:
            result = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
            result.bind(("e0", 3))
            result.setsockopt(263, 8, 1)  # SOL_PACKET, PACKET_AUXDATA
            result.settimeout(5)
            return result

        frame = b"\xff" * 6 + bytes.fromhex("020000000001") + struct.pack("!HHH", 0x8100, 0x2005, 0x88B5) + bytes(60)
        with inside(link.member(0), raw) as sender, inside(link.member(1), raw) as receiver:
            sender.send(frame)
            while True:
                data, ancillary, _, _ = receiver.recvmsg(2000, 100)
                if data[12:14] == b"\x88\xb5":
                    break
        status, _, _, _, _, tci, tpid = struct.unpack("=IIIHHHH", ancillary[0][2][:20])
        assert status & 0x50 == 0x50
        assert (tci, tpid) == (0x2005, 0x8100)


class TestWithoutRoot:
    def test_a_link_works_in_a_user_namespace_of_its_own(self):
        unshare = ["unshare", "--user", "--map-root-user", "--net", "--mount", "--pid", "--fork"]
        unshare += ["--kill-child", "--mount-proc"]
        if subprocess.run([*unshare, "true"], capture_output=True, check=False).returncode:
            pytest.skip("the kernel permits no user namespaces")
        tests = "-k 'round_trip or tcp_survives or found_without'"
        run = f"exec {sys.executable} -m pytest -q -p no:cacheprovider {__file__} {tests}"
        script = f"mount -t tmpfs none /run && mkdir /run/netns && {run}"
        result = subprocess.run([*unshare, "sh", "-c", script], capture_output=True, text=True, check=False)
        assert "3 passed" in result.stdout, result.stdout + result.stderr


class TestSwitch:
    def test_three_members_reach_each_other_and_what_is_for_one_does_not_go_to_another(self, segment):
        link = segment(3)
        link.start(delay_ms=1)
        for source, target in ((0, 2), (0, 3), (1, 3), (2, 1)):
            assert link.received(f"-c 2 -i 0.02 10.9.0.{target}", source) == 2
        before = link.frames_into(2)
        assert link.received("-c 100 -i 0.01 10.9.0.2", 0) == 100
        assert link.frames_into(2) - before < 50  # of 200; what there is is background: ARP, IPv6 multicast


class TestLife:
    def test_a_relay_is_found_without_memory_and_says_what_it_does(self, segment):
        link = segment(2)
        relay = link.start(delay_ms=1, loss=0.25)
        assert find_relays(MINE) == [relay]
        assert find_relays(f"{PREFIX}other-") == []
        assert relay_matches(relay, ["p1", "p0"], Faults(delay_ms=1, loss=0.25))
        assert not relay_matches(relay, ["p0", "p1"], Faults(delay_ms=1))
        assert not relay_matches(relay, ["p0"], Faults(delay_ms=1, loss=0.25))

    def test_a_relay_holds_nothing_of_its_starters(self, segment):
        link = segment(2)
        read, write = os.pipe()
        os.set_inheritable(write, True)
        relay = link.start(delay_ms=1)
        os.close(write)
        assert os.read(read, 1) == b""
        os.close(read)
        targets = [str(Path(f"/proc/{relay.pid}/fd/{number}").readlink()) for number in (0, 1, 2)]
        assert targets == ["/dev/null"] * 3
        assert Path(f"/proc/{relay.pid}/cwd").readlink() == Path("/")
        assert os.getsid(relay.pid) != os.getsid(0)
        assert "--title\0a test's link" in Path(f"/proc/{relay.pid}/cmdline").read_text()

    def test_a_namespace_has_one_relay(self, segment):
        link = segment(2)
        relay = link.start(delay_ms=1)
        with pytest.raises(FairwayError, match="another relay"):
            link.start(delay_ms=2)
        assert find_relays(MINE) == [relay]

    def test_stopping_a_relay_ends_it_and_stopping_it_again_does_nothing(self, segment):
        link = segment(2)
        relay = link.start(delay_ms=1)
        stop_relay(relay)
        assert find_relays(MINE) == []
        assert not relay_matches(relay, link.ports, Faults(delay_ms=1))
        stop_relay(relay)

    def test_a_process_that_got_a_relays_number_is_left_alone(self):
        program = "import ctypes; ctypes.CDLL(None).prctl(15, b'fairway-relay'); print(flush=True); input()"
        command = [sys.executable, "-c", program]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
            assert other.stdout is not None
            other.stdout.readline()
            stop_relay(Relay(other.pid, 1, f"{MINE}link"))
            time.sleep(0.1)
            assert other.poll() is None
            other.kill()

    def test_a_relay_ends_with_its_members(self, segment):
        link = segment(2)
        link.start(delay_ms=1)
        ip(f"netns delete {link.member(0)}")
        ip(f"netns delete {link.member(1)}")
        assert until(lambda: find_relays(MINE) == [])

    def test_a_relay_ends_with_the_name_of_its_namespace(self, segment):
        link = segment(2)
        relay = link.start(delay_ms=1)
        ip(f"netns delete {link.namespace}")
        assert not relay_matches(relay, link.ports, Faults(delay_ms=1))
        assert until(lambda: find_relays(MINE) == [])
        assert until(lambda: "e0" not in ip(f"-n {link.member(0)} -br link"))  # the kernel ended it, and both pairs

    def test_a_relay_in_a_namespace_whose_name_another_has_now_does_not_match(self, segment):
        link = segment(2)
        relay = link.start(delay_ms=1)
        os.kill(relay.pid, signal.SIGSTOP)  # or it would see that, and end
        ip(f"netns delete {link.namespace}")
        ip(f"netns add {link.namespace}")
        assert find_relays(MINE) == [relay]
        assert not relay_matches(relay, link.ports, Faults(delay_ms=1))
        os.kill(relay.pid, signal.SIGCONT)
        assert until(lambda: find_relays(MINE) == [])

    def test_a_port_that_is_down_and_up_again_works(self, segment):
        link = segment(2)
        relay = link.start(delay_ms=1)
        ip(f"-n {link.namespace} link set p0 down")
        assert link.received("-c 1 -W 1 10.9.0.2") == 0
        ip(f"-n {link.namespace} link set p0 up")
        assert until(lambda: link.received("-c 1 -W 1 10.9.0.2") == 1)
        assert find_relays(MINE) == [relay]

    def test_a_port_that_is_made_again_works_while_another_is_there(self, segment):
        link = segment(2)
        relay = link.start(delay_ms=1)
        ip(f"-n {link.member(1)} link delete e0")
        link.plug(1)
        assert until(lambda: link.received("-c 1 -W 1 10.9.0.2") == 1)
        assert find_relays(MINE) == [relay]

    def test_a_relay_that_cannot_start_says_why_and_leaves_none(self, segment):
        link = segment(2)
        with pytest.raises(FairwayError, match="no interface p7"):
            start_relay(link.namespace, ["p0", "p7"], Faults(delay_ms=1), title="a test's link")
        with pytest.raises(FairwayError, match=f"{MINE}nowhere"):
            start_relay(f"{MINE}nowhere", ["p0", "p1"], Faults(delay_ms=1), title="a test's link")
        assert find_relays(MINE) == []

    @pytest.mark.parametrize("after_s", [0.02, 0.05, 0.08, 0.12, 0.3])
    def test_a_starter_that_is_killed_leaves_a_whole_relay_or_none(self, segment, after_s):
        link = segment(2)
        program = (
            "from fairway.lab.faults import start_relay; from fairway.lab.model import Faults; import time\n"
            "print('go', flush=True)\n"
            f"start_relay({link.namespace!r}, {link.ports!r}, Faults(delay_ms=1), title='x')\n"
            "time.sleep(60)"
        )
        with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as starter:
            assert starter.stdout is not None
            starter.stdout.readline()
            time.sleep(after_s)
            starter.send_signal(signal.SIGKILL)
        time.sleep(0.5)

        def whole() -> bool:
            found = find_relays(MINE)
            return len(found) < 2 and all(relay_matches(relay, link.ports, Faults(delay_ms=1)) for relay in found)

        assert until(whole)
        if find_relays(MINE):
            assert until(lambda: link.received("-c 1 -W 1 10.9.0.2") == 1)
