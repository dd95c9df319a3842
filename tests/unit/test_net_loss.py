"""When a connection counts as lost, and what only looks like it."""

from __future__ import annotations

import asyncio
import socket
import struct

import pytest

from telepathy_e2e.net import loss, streams
from telepathy_e2e.net.loss import INFO_SIZE, INTERVAL, TIMEOUT, LossDetector
from telepathy_e2e.net.streams import SocketStream, StreamBroken


def info(*, last_ack: float, unacked: int = 0, probes: int = 0) -> bytes:
    """As of ``struct tcp_info``; ``last_ack``: seconds ago."""
    return struct.pack("<3xB20xI28xI", probes, unacked, int(last_ack * 1000))


def looks(*seen: bytes) -> list[bool]:
    detector = LossDetector()
    return [detector.look(each, 100 + INTERVAL * index) for index, each in enumerate(seen)]


def test_the_layout_is_that_of_the_kernel() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        one = socket.create_connection(server.getsockname())
        other, _ = server.accept()
        one.send(b"something")
        seen = one.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, INFO_SIZE)
        assert len(seen) == INFO_SIZE == len(info(last_ack=0))
        (last_ack,) = struct.unpack_from("I", seen, 56)
        assert last_ack < 60_000
        one.close()
        other.close()


def test_what_is_never_acknowledged_is_lost_after_the_timeout() -> None:
    needed = int(TIMEOUT / INTERVAL)
    seen = looks(*(info(last_ack=3 + INTERVAL * i, unacked=1) for i in range(needed + 1)))
    assert seen == [False] * needed + [True]


def test_probes_of_a_closed_window_that_nobody_answers_are_a_loss() -> None:
    seen = looks(*(info(last_ack=3 + INTERVAL * i, probes=2 + i) for i in range(5)))
    assert seen[-1]
    assert not any(seen[:-1])


def test_a_window_that_is_closed_for_long_is_no_loss() -> None:
    """Its probes are answered; they may be minutes apart."""
    assert not any(looks(*(info(last_ack=INTERVAL * i, probes=1) for i in range(50))))


def test_a_connection_that_is_busy_is_no_loss() -> None:
    assert not any(looks(*(info(last_ack=0.1, unacked=20) for _ in range(50))))


def test_an_acknowledgement_begins_the_wait_anew() -> None:
    silent = [info(last_ack=3 + INTERVAL * i, unacked=1) for i in range(4)]
    assert not any(looks(*silent, info(last_ack=1, unacked=1), *silent[1:]))


def test_a_silence_before_something_was_sent_does_not_count() -> None:
    seen = looks(
        info(last_ack=1000),
        info(last_ack=1000 + INTERVAL, unacked=1),
        info(last_ack=1000 + 2 * INTERVAL, unacked=1),
    )
    assert not any(seen)


async def test_a_reader_that_pauses_breaks_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel's own way (TCP_USER_TIMEOUT) would."""
    monkeypatch.setattr(loss, "TIMEOUT", 0.2)
    monkeypatch.setattr(streams, "INTERVAL", 0.02)
    looked = 0
    enough = asyncio.Event()
    real = LossDetector.look

    def look(self: LossDetector, seen: bytes, now: float) -> bool:
        nonlocal looked
        looked += 1
        if looked > 100:
            enough.set()
        return real(self, seen, now)

    monkeypatch.setattr(LossDetector, "look", look)
    with socket.create_server(("127.0.0.1", 0)) as server:
        sock = socket.create_connection(server.getsockname())
        other, _ = server.accept()
    sender, receiver = SocketStream(sock), SocketStream(other)
    sender.notice_loss()
    total = 0
    while taken := sender.write_now(bytes(65536)):
        total += taken
    await enough.wait()
    received = 0
    while received < total:
        received += len(await receiver.read(65536))
    await sender.write(b"on")
    assert await receiver.read(2) == b"on"
    sender.close()
    receiver.close()


async def test_who_waits_on_a_lost_connection_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LossDetector, "look", lambda self, seen, now: True)
    with socket.create_server(("127.0.0.1", 0)) as server:
        sock = socket.create_connection(server.getsockname())
        other, _ = server.accept()
    stream = SocketStream(sock)
    asyncio.get_running_loop().call_soon(stream.notice_loss)
    with pytest.raises(StreamBroken):
        await stream.read(1)
    other.close()


async def test_nothing_looks_at_a_connection_that_was_given_away() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        sock = socket.create_connection(server.getsockname())
        other, _ = server.accept()
    stream = SocketStream(sock)
    stream.notice_loss()
    looking = stream._looking
    assert looking is not None
    assert not looking.cancelled()
    stream.detach().close()
    assert looking.cancelled()
    other.close()
