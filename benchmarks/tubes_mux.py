"""Connections in one stream: our format and HTTP/2's beside a plain copy through the same loop.

    .venv/bin/python -m pip install h2
    .venv/bin/python -m benchmarks.tubes_mux [MEGABYTES]

Both ends run in this one process, so that time is the sum of what both compute. Nothing is
asserted. Without h2 its rows are left out.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

from telepathy_e2e.role import Role
from telepathy_e2e.tubes.events import Data, Writable
from telepathy_e2e.tubes.mux import CHUNK, Multiplexer
from telepathy_e2e.xtls.engine import Engine
from tests.unit.xtls_support import PEOPLE

try:
    import h2.config
    import h2.connection
    import h2.events
    import hyperframe.frame
except ImportError:
    h2 = None

MB = 1_000_000
WINDOW = 1 << 20
# One read of a local program when many are served.
PIECE = 16 * 1024

Road = Callable[[bytes], Iterable[bytes]]


class End(Protocol):
    """One side of a contender."""

    writable: list[int]

    def open(self) -> int: ...

    def write(self, number: int, data: bytes) -> int: ...

    def take(self) -> bytes: ...

    def give(self, data: bytes) -> Sequence[bytes | memoryview]: ...


class Ours:
    """telepathy_e2e.tubes."""

    def __init__(self, role: Role, frame: int) -> None:
        self._mux = Multiplexer(role)
        self._mux.road_up()
        self.writable: list[int] = []

    def open(self) -> int:
        return self._mux.open()

    def write(self, number: int, data: bytes) -> int:
        return self._mux.write(number, data)

    def take(self) -> bytes:
        data = self._mux.data_to_send()
        self.writable += [each.id for each in self._mux.events() if isinstance(each, Writable)]
        return data

    def give(self, data: bytes) -> list[memoryview]:
        out = []
        for event in self._mux.receive_data(data):
            if isinstance(event, Data):
                out.append(event.data)
                self._mux.consumed(event.id, len(event.data))
            elif isinstance(event, Writable):
                self.writable.append(event.id)
        return out


class Http2:
    """h2; its checks of headers are off, its windows are as large as ours grow."""

    def __init__(self, role: Role, frame: int) -> None:
        client = role is Role.INITIATOR
        config = h2.config.H2Configuration(
            client_side=client,
            validate_inbound_headers=False,
            validate_outbound_headers=False,
            normalize_outbound_headers=False,
        )
        self._connection: Any = h2.connection.H2Connection(config)
        self._connection.local_settings.initial_window_size = WINDOW
        self._connection.local_settings.max_frame_size = frame
        self._connection.local_settings.acknowledge()
        self._connection.max_inbound_frame_size = frame
        self._connection.initiate_connection()
        self._connection.increment_flow_control_window(2**31 - 1 - 65_535)
        self._frame = frame
        self.writable: list[int] = []
        self._blocked: set[int] = set()

    def open(self) -> int:
        number: int = self._connection.get_next_available_stream_id()
        self._connection.send_headers(number, [(":method", "CONNECT"), (":authority", "tube")])
        return number

    def write(self, number: int, data: bytes) -> int:
        connection = self._connection
        taken: int = min(len(data), connection.local_flow_control_window(number))
        for start in range(0, taken, self._frame):
            connection.send_data(number, data[start : min(taken, start + self._frame)])
        (self._blocked.add if taken < len(data) else self.writable.append)(number)
        return taken

    def take(self) -> bytes:
        data: bytes = self._connection.data_to_send()
        return data

    def give(self, data: bytes) -> list[bytes]:
        out = []
        for event in self._connection.receive_data(data):
            if isinstance(event, h2.events.DataReceived):
                out.append(event.data)
                size = event.flow_controlled_length
                self._connection.acknowledge_received_data(size, event.stream_id)
            elif isinstance(event, h2.events.WindowUpdated):
                if event.stream_id in self._blocked:
                    self._blocked.remove(event.stream_id)
                    self.writable.append(event.stream_id)
        return out


def memory() -> tuple[Road, Road]:
    """A road that copies."""

    def carry(data: bytes) -> Iterable[bytes]:
        view = memoryview(data)
        return [bytes(view[start : start + CHUNK]) for start in range(0, len(view), CHUNK)]

    return carry, carry


def tls() -> tuple[Road, Road]:
    """A road of two TLS engines."""
    people = {role: PEOPLE[role].credentials() for role in Role}
    ends = {
        role: Engine(role, people[role].key, people[role].leaf, lambda _: None) for role in Role
    }
    for end in ends.values():
        end.start()
    for _ in range(3):
        for role in Role:
            ends[role.other].receive(ends[role].data_to_send())

    def road(source: Engine, sink: Engine) -> Road:
        def carry(data: bytes) -> Iterable[bytes]:
            view = memoryview(data)
            for start in range(0, len(view), CHUNK):
                source.write(view[start : start + CHUNK])
                sink.receive(source.data_to_send())
                while piece := sink.read(CHUNK):
                    yield piece

        return carry

    return road(ends[Role.INITIATOR], ends[Role.RESPONDER]), road(
        ends[Role.RESPONDER], ends[Role.INITIATOR]
    )


def plain(roads: tuple[Road, Road], size: int) -> float:
    """MB/s (of processor time) of one stream and nothing else."""
    source, sink, done = memoryview(os.urandom(CHUNK)), bytearray(CHUNK), 0
    started = time.process_time()
    while done < size:
        for piece in roads[0](bytes(source)):
            sink[: len(piece)] = piece
            done += len(piece)
    return done / MB / (time.process_time() - started)


def many(kind: Callable[[Role, int], End], roads: tuple[Road, Road], size: int, connections: int,
         frame: int) -> float:  # fmt: skip
    """MB/s (of processor time) of so many connections that are written to as they take it."""
    here, there = kind(Role.INITIATOR, frame), kind(Role.RESPONDER, frame)
    source, sink = memoryview(os.urandom(CHUNK)), bytearray(CHUNK)
    piece = CHUNK if connections == 1 else PIECE

    def turn() -> int:
        done = 0
        for data in roads[0](here.take()):
            for part in there.give(data):
                sink[: len(part)] = part
                done += len(part)
        for data in roads[1](there.take()):
            here.give(data)
        return done

    turn(), turn()
    here.writable = [here.open() for _ in range(connections)]
    turn()
    left: dict[int, bytes] = {}
    done = 0
    started = time.process_time()
    while done < size:
        numbers, here.writable = here.writable, []
        for number in numbers:
            data = left.pop(number, b"") or bytes(source[:piece])
            taken = here.write(number, data)
            if taken < len(data):
                left[number] = data[taken:]
            elif isinstance(here, Ours):
                here.writable.append(number)
        done += turn()
    return done / MB / (time.process_time() - started)


def main() -> None:
    size = int(sys.argv[1] if len(sys.argv) > 1 else 200) * MB
    print("| road | what | 1 connection | 50 connections |\n|---|---|---|---|")
    for name, make in (("memory", memory), ("TLS", tls)):
        alone = plain(make(), size)
        print(f"| {name} | plain copy, one stream | {alone:.0f} MB/s | |", flush=True)
        contenders: list[tuple[str, Callable[[Role, int], End], int]] = [("ours", Ours, 0)]
        if h2 is not None:
            contenders += [
                (f"h2, frames of {frame >> 10} KiB", Http2, frame) for frame in (16 << 10, CHUNK)
            ]
            contenders.append(("the same, its hex dumps patched out", Http2, -CHUNK))
        for what, kind, frame in contenders:
            if frame < 0:
                dump, hyperframe.frame.Frame.__repr__ = hyperframe.frame.Frame.__repr__, _nothing
            speeds = [many(kind, make(), size, n, abs(frame)) for n in (1, 50)]
            if frame < 0:
                hyperframe.frame.Frame.__repr__ = dump
            shown = " | ".join(f"{each:.0f} MB/s, {each / alone:.2f}" for each in speeds)
            print(f"| {name} | {what} | {shown} |", flush=True)


def _nothing(_: object) -> str:
    return ""


if __name__ == "__main__":
    main()
