"""netem as encoded messages only: the bytes are those of linux/pkt_sched.h; no qdisc is made."""

import struct
from pathlib import Path

import pytest

from fairway.lab.faults import netem
from fairway.lab.model import Faults


def attributes(data: bytes) -> dict[int, bytes]:
    found = {}
    offset = 0
    while offset < len(data):
        length, kind = struct.unpack_from("=HH", data, offset)
        found[kind] = data[offset + 4 : offset + length]
        offset += (length + 3) & ~3
    return found


def test_the_request_replaces_the_root_qdisc_of_one_interface_by_netem():
    request = netem.set_faults(7, Faults(delay_ms=10))
    length, kind, flags, _, _ = struct.unpack_from("=IHHII", request)
    assert (length, kind, flags) == (len(request), 36, 0x1 | 0x4 | 0x100 | 0x400)
    _, index, handle, parent, _ = struct.unpack_from("=BxxxiIII", request, 16)
    assert (index, parent) == (7, 0xFFFFFFFF)
    assert handle & 0xFFFF == 0
    found = attributes(request[36:])
    assert found[1] == b"netem\0"
    assert found[2] == netem.options(Faults(delay_ms=10))


def test_delay_and_jitter_are_told_in_nanoseconds():
    found = attributes(netem.options(Faults(delay_ms=10, jitter_ms=0.5))[24:])
    assert struct.unpack("=q", found[10]) == (10_000_000,)
    assert struct.unpack("=q", found[11]) == (500_000,)


@pytest.mark.parametrize(("share", "told"), [(0, 0), (0.5, 2**31), (1, 2**32 - 1)])
def test_loss_is_told_as_a_share_of_32_bits(share, told):
    _, _, loss, *_ = struct.unpack_from("=IIIIII", netem.options(Faults(loss=share)))
    assert loss == told


def test_rate_is_told_in_bytes_a_second_and_beyond_32_bits_twice():
    found = attributes(netem.options(Faults(rate_bps=100_000_000))[24:])
    assert struct.unpack("=IiIi", found[6]) == (12_500_000, 0, 0, 0)
    assert 8 not in found
    found = attributes(netem.options(Faults(rate_bps=100_000_000_000))[24:])
    assert struct.unpack("=IiIi", found[6])[0] == 2**32 - 1
    assert struct.unpack("=Q", found[8]) == (12_500_000_000,)


def test_no_rate_is_told_too_since_netem_keeps_one_that_it_is_told_nothing_about():
    found = attributes(netem.options(Faults(delay_ms=1))[24:])
    assert struct.unpack("=IiIi", found[6]) == (0, 0, 0, 0)


def test_the_queue_holds_what_is_under_way_at_the_rate():
    def limit(**faults) -> int:
        return struct.unpack_from("=II", netem.options(Faults(**faults)))[1]

    assert limit(rate_bps=10_000_000) == netem.QUEUE_PACKETS
    assert limit(rate_bps=1_000_000_000, delay_ms=50) > 10_000_000 // 1514 * 1.2


def test_faults_are_taken_away_only_if_they_are_netems():
    request = netem.clear_faults(7)
    assert struct.unpack_from("=IHH", request) == (len(request), 37, 0x1 | 0x4)
    assert attributes(request[36:])[1] == b"netem\0"


def test_an_interface_can_be_told_to_send_tcp_in_single_segments():
    request = netem.single_segments(7)
    assert struct.unpack_from("=IHH", request) == (len(request), 16, 0x1 | 0x4)
    assert struct.unpack("=I", attributes(request[32:])[40]) == (1,)


def test_the_probe_answers_and_leaves_our_own_namespace_as_it_was():
    before = Path("/proc/net/dev").read_text().count("\n")
    assert netem.supported() in (True, False)
    assert Path("/proc/net/dev").read_text().count("\n") == before
