"""What a qlog says is what the simulated path saw."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from observed import BEGUN, Logs, Record, check_schema, core, observed
from pycddl import ValidationError
from quic_pair import Pair, SimulatedPath

from fairway.quic import Phase, QuicConfiguration, ack_frames
from fairway.quic import frames as fr
from fairway.quic.observe.frames_text import frames_text
from fairway.quic.observe.qvis import for_qvis, records
from fairway.quic.packets.headers import VERSION_2
from fairway.tls import ClientConfig

ENDS = ("client", "server")


def upload(pair: Pair, size: int) -> int:
    """Send `size` bytes to the server, and wait until all is quiet."""
    client = core(pair.client.core)
    stream_id = client.open_stream()
    assert stream_id is not None
    assert client.write(stream_id, bytes(size), end=True) == size
    pair.run(lambda: stream_id in pair.server.ended)
    pair.run_for(1.0)
    return stream_id


def numbers(events: list[Record], kind: str = "1RTT") -> list[int]:
    return [data["header"]["packet_number"] for data in events if data["header"]["packet_type"] == kind]


def eliciting(data: Record) -> bool:
    return any(frame["frame_type"] not in ("ack", "padding", "connection_close") for frame in data["frames"])


def bad_path(**options: Any) -> SimulatedPath:
    return SimulatedPath(delay=0.02, jitter=0.004, loss=0.03, duplication=0.02, corruption=0.01, **options)


class TestPackets:
    @pytest.mark.parametrize("seed", range(4))
    def test_every_packet_sent_is_there_once_and_their_sizes_are_what_the_path_carried(self, seed: int) -> None:
        pair, logs = observed(seed=seed, there=bad_path(), back=bad_path())
        upload(pair, 150_000)
        core(pair.client.core).close(pair.now, 7, "done")
        pair.run_for(1.0)
        for role, path, side in (("client", pair.there, pair.client), ("server", pair.back, pair.server)):
            sent = logs.events(role, "packet_sent")
            seen = Counter((data["header"]["packet_type"], data["header"]["packet_number"]) for data in sent)
            assert set(seen.values()) == {1}
            assert len(sent) == core(side.core).statistics()["packets_sent"]
            assert sum(data["raw"]["length"] for data in sent) == path.bytes
            assert numbers(sent) == sorted(numbers(sent))

    @pytest.mark.parametrize("jitter", [0.004, 0.0])  # without, whole buffers arrive at once
    @pytest.mark.parametrize("seed", range(3))
    def test_what_one_end_says_it_received_is_what_the_other_says_it_sent(self, seed: int, jitter: float) -> None:
        pair, logs = observed(seed=seed, there=replace(bad_path(), jitter=jitter), back=bad_path())
        upload(pair, 150_000)
        upload(pair, 3_700)
        for receiver, sender in (ENDS, ENDS[::-1]):
            sent = {
                (data["header"]["packet_type"], data["header"]["packet_number"]): (data["frames"], data["raw"])
                for data in logs.events(sender, "packet_sent")
            }
            received = logs.events(receiver, "packet_received")
            keys = [(data["header"]["packet_type"], data["header"]["packet_number"]) for data in received]
            assert len(keys) == len(set(keys)) > 15
            for key, data in zip(keys, received, strict=True):
                assert (data["frames"], data["raw"]) == sent[key]

    def test_a_packet_that_arrives_twice_is_received_once_and_dropped_once(self) -> None:
        pair, logs = observed(there=SimulatedPath(duplication=1.0), back=SimulatedPath())
        upload(pair, 50_000)
        received = logs.events("server", "packet_received")
        dropped = logs.events("server", "packet_dropped")
        duplicates = [data for data in dropped if data["trigger"] in ("duplicate", "key_unavailable")]
        assert len(received) == len(logs.events("client", "packet_sent"))
        assert len(duplicates) == len(dropped) == len(received)
        assert core(pair.server.core).statistics()["packets_dropped"] == len(dropped)

    def test_a_packet_that_was_changed_on_the_way_is_dropped_with_its_reason(self) -> None:
        pair, logs = observed()
        pair.there.corruption = 1.0
        core(pair.client.core).ping()
        pair.run_for(0.05)
        assert {data["trigger"] for data in logs.events("server", "packet_dropped")} <= {
            "decryption_failure", "connection_unknown", "invalid", "unsupported"
        }  # fmt: skip
        assert logs.events("server", "packet_dropped")

    def test_streams_are_there_byte_for_byte_but_without_their_bytes(self) -> None:
        pair, logs = observed()
        client = core(pair.client.core)
        secret = b"what nobody else may read" * 100
        stream_id = client.open_stream()
        assert stream_id is not None
        client.write(stream_id, secret, end=True)
        pair.run(lambda: stream_id in pair.server.ended)
        pieces = [
            frame
            for data in logs.events("server", "packet_received")
            for frame in data["frames"]
            if frame["frame_type"] == "stream"
        ]
        assert pieces[0]["offset"] == 0
        assert sum(piece["raw"]["payload_length"] for piece in pieces) == len(secret)
        assert [piece["fin"] for piece in pieces if "fin" in piece] == [True]
        for role in ENDS:
            assert secret[:16] not in logs.text(role)
            assert secret[:16].hex().encode() not in logs.text(role)


class TestLosses:
    def test_lost_are_exactly_the_packets_that_the_path_dropped(self) -> None:
        pair, logs = observed()
        before = pair.there.count
        pair.there.drop = lambda index, _: index >= before and (index - before) % 17 == 5
        upload(pair, 400_000)
        received = set(numbers(logs.events("server", "packet_received")))
        sent = [data for data in logs.events("client", "packet_sent") if data["header"]["packet_type"] == "1RTT"]
        dropped = {data["header"]["packet_number"] for data in sent if eliciting(data)} - received
        lost = numbers(logs.events("client", "packet_lost"))
        assert len(dropped) > 10
        assert sorted(lost) == sorted(dropped)
        statistics = core(pair.client.core).statistics()
        assert statistics["packets_lost"] == len(lost)
        sizes = {data["header"]["packet_number"]: data["raw"]["length"] for data in sent}
        assert statistics["bytes_lost"] == sum(sizes[number] for number in lost)
        assert statistics["packets_spuriously_lost"] == 0
        streams = [frame for data in sent for frame in data["frames"] if frame["frame_type"] == "stream"]
        again = sum(frame["raw"]["payload_length"] for frame in streams) - 400_000
        assert statistics["stream_bytes_retransmitted"] == again > 0

    def test_a_loss_says_whether_number_or_time_told_it(self) -> None:
        pair, logs = observed()
        count = pair.there.count
        pair.there.drop = lambda index, _: index == count + 1
        upload(pair, 30_000)
        assert {data["trigger"] for data in logs.events("client", "packet_lost")} == {"reordering_threshold"}
        pair, logs = observed()
        client = core(pair.client.core)
        pair.run_for(1.0)
        count = pair.there.count
        pair.there.drop = lambda index, _: index == count
        client.ping()
        pair.run_for(0.001)
        client.ping()
        pair.run_for(5.0)
        assert "time_threshold" in {data["trigger"] for data in logs.events("client", "packet_lost")}

    def test_a_packet_that_was_only_late_was_spuriously_lost(self) -> None:
        pair, logs = observed(there=SimulatedPath(jitter=0.02), back=SimulatedPath())
        upload(pair, 150_000)
        statistics = core(pair.client.core).statistics()
        assert statistics["packets_lost"] == len(logs.events("client", "packet_lost")) > 0
        assert statistics["packets_spuriously_lost"] == statistics["packets_lost"]

    def test_a_run_that_was_late_counts_each_of_its_packets(self) -> None:
        class Detour(SimulatedPath):
            def deliveries(self, datagram: bytes, now: float, rng: Any) -> list[tuple[float, bytes]]:
                late = 0.005 if first <= self.count < first + 6 else 0.0
                return [(at + late, data) for at, data in super().deliveries(datagram, now, rng)]

        first = 1 << 30
        pair, logs = observed(there=Detour(), back=SimulatedPath())
        pair.run_for(0.5)
        first = pair.there.count
        upload(pair, 30_000)
        statistics = core(pair.client.core).statistics()
        assert statistics["packets_spuriously_lost"] == len(logs.events("client", "packet_lost")) >= 4


class TestRecovery:
    def test_the_metrics_end_where_the_connection_stands(self) -> None:
        pair, logs = observed(there=SimulatedPath(delay=0.03))
        upload(pair, 200_000)
        known: dict[str, float] = {}
        for data in logs.events("client", "recovery_metrics_updated"):
            assert all(known.get(name) != value for name, value in data.items())  # only what changed
            known |= data
        statistics = core(pair.client.core).statistics()
        assert known["congestion_window"] == statistics["congestion_window"] > 12_000
        assert known["bytes_in_flight"] == statistics["bytes_in_flight"] == 0
        assert known["min_rtt"] == pytest.approx(60, abs=0.001)
        assert known["smoothed_rtt"] == pytest.approx(statistics["smoothed_rtt_s"] * 1e3, abs=0.001)

    def test_bytes_in_flight_never_pass_the_window_by_more_than_what_is_free_of_it(self) -> None:
        pair, logs = observed(there=SimulatedPath(delay=0.03, loss=0.01), seed=3)
        upload(pair, 500_000)
        known: dict[str, float] = {}
        for data in logs.events("client", "recovery_metrics_updated"):
            grown = data.get("bytes_in_flight", 0) > known.get("bytes_in_flight", 0)
            known |= data
            if grown and not known["pto_count"]:
                assert known["bytes_in_flight"] <= known["congestion_window"] + 2 * 1200

    @pytest.mark.parametrize("congestion", ["cubic", "reno"])
    def test_the_states_of_congestion_control_follow_a_loss(self, congestion: str) -> None:
        pair, logs = observed(QuicConfiguration(congestion=congestion))
        count = pair.there.count
        pair.there.drop = lambda index, _: index == count + 20
        upload(pair, 500_000)
        states = [data["new"] for data in logs.events("client", "congestion_state_updated")]
        assert states == ["slow_start", "recovery", "congestion_avoidance"]

    def test_probe_timeouts_are_counted_and_seen(self) -> None:
        pair, logs = observed()
        pair.run_for(1.0)
        pair.there.drop = lambda index, _: True
        core(pair.client.core).ping()
        pair.run_for(3.0)
        counts = [
            data["pto_count"] for data in logs.events("client", "recovery_metrics_updated") if "pto_count" in data
        ]
        assert max(counts) == core(pair.client.core).statistics()["probe_timeouts"] >= 3


class TestLife:
    def test_the_phases_of_a_connection_that_is_closed(self) -> None:
        pair, logs = observed()
        pair.run_for(0.5)
        core(pair.client.core).close(pair.now, 5, "enough")
        pair.run_for(5.0)
        client = [data["new"] for data in logs.events("client", "connection_state_updated")]
        assert client == ["attempted", "handshake_complete", "handshake_confirmed", "closing", "closed"]
        server = [data["new"] for data in logs.events("server", "connection_state_updated")]
        assert server == ["attempted", "handshake_confirmed", "draining", "closed"]
        (ended,) = logs.events("client", "connection_closed")
        assert ended == {
            "initiator": "local", "application_error": "unknown", "error_code": 5, "trigger": "application",
            "reason": "enough",
        }  # fmt: skip
        (ended,) = logs.events("server", "connection_closed")
        assert (ended["initiator"], ended["error_code"], ended["reason"]) == ("remote", 5, "enough")
        for name, sink in logs.sinks.items():
            assert sink.flushed == len(sink.data), name

    def test_a_connection_that_nobody_hears_from_idles_out(self) -> None:
        pair, logs = observed(QuicConfiguration(idle_timeout_s=2.0))
        pair.there.drop = pair.back.drop = lambda index, _: True
        pair.run_for(10.0)
        assert logs.events("client", "connection_closed") == [{"trigger": "idle_timeout"}]

    def test_a_failed_handshake_names_its_alert(self) -> None:
        pair, logs = observed(client_tls=ClientConfig("localhost", ("other",), verify=False), connect=False)
        pair.run(lambda: core(pair.client.core).closing is not None)
        (ended,) = logs.events("server", "connection_closed")
        assert (ended["initiator"], ended["connection_error"]) == ("local", "crypto_error_0x178")
        assert [data["new"] for data in logs.events("client", "connection_state_updated")][-1] == "draining"
        for role in ENDS:
            check_schema(logs.records(role))

    def test_both_ends_say_the_same_of_their_parameters_and_of_what_they_agreed_on(self) -> None:
        _, logs = observed(server_configuration=QuicConfiguration(max_streams_bidi=77, max_datagram_frame_size=1234))
        for one, other in (ENDS, ENDS[::-1]):
            (local,) = (data for data in logs.events(one, "parameters_set") if data.get("initiator") == "local")
            (remote,) = (data for data in logs.events(other, "parameters_set") if data.get("initiator") == "remote")
            for name in ("initial_max_streams_bidi", "max_datagram_frame_size", "initial_max_data"):
                assert local[name] == remote[name]
            assert logs.events(one, "alpn_information") == [{"chosen_alpn": {"string_value": "test"}}]
        assert remote["initial_max_streams_bidi"] == 77
        for role in ENDS:
            head = logs.records(role)[0]
            assert f"{head['trace']['common_fields']['group_id']}_{role}" in logs.sinks
            moment = head["trace"]["common_fields"]["reference_time"]["wall_clock_time"]
            assert moment == BEGUN.isoformat(timespec="microseconds")

    def test_a_key_update_is_local_where_it_began_and_remote_where_it_was_followed(self) -> None:
        pair, logs = observed()
        pair.run(lambda: core(pair.client.core).phase is Phase.CONFIRMED)
        assert core(pair.client.core).update_keys(pair.now)
        upload(pair, 5000)
        for role, trigger in (("client", "local_update"), ("server", "remote_update")):
            updates = [data for data in logs.events(role, "key_updated") if data["trigger"] != "tls"]
            assert [(data["key_phase"], data["trigger"]) for data in updates] == [(1, trigger)] * 2
            phases = [data["header"].get("key_phase") for data in logs.events(role, "packet_sent")][-1]
            assert phases == 1
        discarded = [data["key_type"] for data in logs.events("client", "key_discarded")]
        assert sorted(discarded) == sorted(f"{end}_{k}_secret" for end in ENDS for k in ("initial", "handshake"))

    def test_times_never_go_back(self) -> None:
        pair, logs = observed(there=bad_path(), seed=9)
        upload(pair, 100_000)
        for role in ENDS:
            times = [record["time"] for record in logs.records(role)[1:]]
            assert times == sorted(times)
            assert times[0] == 0

    @pytest.mark.parametrize("seed", range(3))
    def test_who_looks_on_changes_nothing(self, seed: int) -> None:
        def datagrams(logs: Logs | None) -> list[tuple[float, int]]:
            seen: list[tuple[float, int]] = []

            class Recording(SimulatedPath):
                def deliveries(self, datagram: bytes, now: float, rng: Any) -> list[tuple[float, bytes]]:
                    seen.append((round(now, 9), len(datagram)))
                    return super().deliveries(datagram, now, rng)

            paths = [Recording(delay=0.01, loss=0.02, jitter=0.001) for _ in range(2)]
            observers = {} if logs is None else {"observe_client": logs.observe, "observe_server": logs.observe}
            upload(Pair(seed=seed, there=paths[0], back=paths[1], **observers), 200_000)
            return seen

        assert datagrams(None) == datagrams(Logs())


def test_every_record_follows_the_schema_of_the_drafts() -> None:
    configuration = QuicConfiguration(versions=(VERSION_2,), max_datagram_frame_size=65535, connection_window=100_000)
    pair, logs = observed(configuration, there=bad_path(), back=replace(bad_path()), seed=6)
    client, server = core(pair.client.core), core(pair.server.core)
    pair.run(lambda: client.phase is Phase.CONFIRMED)
    upload(pair, 150_000)
    client.update_keys(pair.now)
    client.send_datagram(b"datagram")
    for unidirectional in (False, True):
        stream_id = client.open_stream(unidirectional=unidirectional)
        assert stream_id is not None
        client.write(stream_id, bytes(5000))
        client.reset(stream_id, 9)
    other = server.open_stream()
    assert other is not None
    server.write(other, bytes(20_000))
    pair.run_for(0.5)
    client.stop_sending(other, 3)
    pair.run_for(1.0)
    server.close(pair.now, 0x0A, "a rule was broken", application=False)
    pair.run_for(2.0)
    for role in ENDS:
        log = logs.records(role)
        assert len(log) > 200
        check_schema(log)


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("packet_sent", {"header": {"packet_type": "1RTT", "packet_numbr": 1}}),
        ("packet_sent", {"header": {"packet_type": "1RTT"}, "frames": [{"frame_type": "stream", "id": 1}]}),
        ("parameters_set", {"initial_source_connection_id": "xyz"}),
        ("connection_closed", {"connection_error": "crypto_error_0x300"}),
        ("key_updated", {"key_type": "client_secret"}),
    ],
)
def test_the_schema_refuses_what_is_wrong(name: str, data: Record) -> None:
    _, logs = observed()
    log = logs.records("client")
    check_schema(log)
    with pytest.raises(ValidationError):
        check_schema([*log, {"time": 1.0, "name": f"quic:{name}", "data": data}])


class TestFrames:
    EXAMPLES = (
        fr.Padding(3), fr.Ping(), ack_frames.Ack(((5, 9), (1, 3)), 100),
        ack_frames.Ack(((5, 5),), 1, ack_frames.EcnCounts(1, 2, 3)),
        fr.ResetStream(4, 77, 1000), fr.StopSending(4, 77), fr.Crypto(10, b"hello"), fr.NewToken(b"token"),
        fr.Stream(8, 99, b"data", True), fr.MaxData(1), fr.MaxStreamData(4, 2), fr.MaxStreams(3, True),
        fr.DataBlocked(4), fr.StreamDataBlocked(4, 5), fr.StreamsBlocked(6, False),
        fr.NewConnectionId(1, 0, b"12345678", bytes(range(200, 216))), fr.RetireConnectionId(7),
        fr.PathChallenge(b"abcdefgh"), fr.PathResponse(b"abcdefgh"), fr.ConnectionClose(0x0A, 6, b"\xff why"),
        fr.ConnectionClose(0x17F, 6, b""), fr.ConnectionClose(4, 0, b"", True), fr.HandshakeDone(),
        fr.ResetStreamAt(4, 77, 1000, 10), fr.Datagram(b"unreliable"), ack_frames.AckFrequency(1, 10, 5000, 3),
        ack_frames.ImmediateAck(),
    )  # fmt: skip

    def test_every_frame_has_its_words_and_follows_the_schema(self) -> None:
        payload = b"".join(frame.encode() for frame in self.EXAMPLES)
        described = json.loads(frames_text(payload, 3))
        assert len(described) == len(self.EXAMPLES)
        assert {type(frame) for frame in self.EXAMPLES} == {
            value for value in vars(fr).values() if isinstance(value, type) and hasattr(value, "decode")
        } - {fr.Frame}
        _, logs = observed()
        event = {"header": {"packet_type": "1RTT", "packet_number": 1}, "frames": described}
        check_schema([*logs.records("client"), {"time": 1.0, "name": "quic:packet_sent", "data": event}])
        assert described[2] == {"frame_type": "ack", "ack_delay": 0.8, "acked_ranges": [[1, 3], [5, 9]]}
        assert described[8]["raw"] == {"length": 9, "payload_length": 4}

    def test_secrets_of_frames_stay_out(self) -> None:
        text = frames_text(fr.NewToken(b"token").encode() + self.EXAMPLES[15].encode(), 3)
        assert b"token".hex() not in text
        assert bytes(range(200, 216)).hex() not in text

    @given(st.binary(max_size=200))
    def test_any_payload_is_described_without_an_error(self, payload: bytes) -> None:
        described = json.loads(frames_text(payload, 3))
        assert isinstance(described, list)
        assert bool(described) == bool(payload)

    def test_what_cannot_be_parsed_is_the_last_and_unknown(self) -> None:
        described = json.loads(frames_text(b"\x01\x0a\x04\x40", 3))
        assert [frame["frame_type"] for frame in described] == ["ping", "unknown"]
        assert described[1]["frame_type_bytes"] == 0x0A


class TestQvis:
    def converted(self) -> tuple[dict[str, Any], Logs]:
        pair, logs = observed(there=bad_path(), seed=2)
        upload(pair, 100_000)
        core(pair.client.core).close(pair.now)
        pair.run_for(1.0)
        return for_qvis([logs.records(role) for role in ENDS]), logs

    def test_client_and_server_become_traces_of_one_old_file(self) -> None:
        converted, logs = self.converted()
        assert (converted["qlog_version"], converted["qlog_format"]) == ("0.3", "JSON")
        assert [trace["vantage_point"]["type"] for trace in converted["traces"]] == list(ENDS)
        for trace, role in zip(converted["traces"], ENDS, strict=True):
            assert len(trace["events"]) == len(logs.records(role)) - 1
            assert trace["common_fields"]["time_format"] == "relative"
            assert trace["common_fields"]["reference_time"] == BEGUN.timestamp() * 1e3

    def test_what_qvis_draws_has_the_names_that_it_looks_for(self) -> None:
        converted, _ = self.converted()
        events = converted["traces"][0]["events"]
        kinds = Counter(event["name"] for event in events)
        for name in (
            "transport:packet_sent",
            "transport:packet_received",
            "transport:parameters_set",
            "recovery:metrics_updated",
            "recovery:packet_lost",
            "connectivity:connection_started",
        ):
            assert kinds[name], name
        assert not [name for name in kinds if name.startswith("quic:")]
        streams = [
            frame
            for event in events
            if event["name"] == "transport:packet_sent"
            for frame in event["data"]["frames"]
            if frame["frame_type"] == "stream"
        ]
        assert [frame["length"] for frame in streams] == [frame["raw"]["payload_length"] for frame in streams]
        assert sum(frame["length"] for frame in streams) >= 100_000
        (started,) = (event["data"] for event in events if event["name"] == "connectivity:connection_started")
        assert (started["dst_ip"], started["dst_port"]) == ("192.0.2.2", 443)

    def test_a_record_that_was_cut_off_is_left_out(self) -> None:
        _, logs = observed()
        whole = logs.text("client")
        assert len(records(whole[:-5])) == len(records(whole)) - 1

    @pytest.mark.parametrize("data", [b"", b"{}", b"\x1e{}\n", b"\x1e[1]\n", b'\x1e"trace"\n', b"\x1e{\n"])
    def test_what_is_no_log_is_a_clear_error(self, data: bytes) -> None:
        with pytest.raises(ValueError, match=r"qlog|record|Expecting"):
            records(data)
