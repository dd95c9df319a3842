from __future__ import annotations

import asyncio
import errno
import socket
from typing import Any

import pytest

from telepathy_e2e.net import accepting
from telepathy_e2e.net.accepting import Acceptor
from telepathy_e2e.net.streams import StreamBroken

from .net_support import LOOPBACKS, call, nothing_left_open, turns


def listening(host: str = "127.0.0.1") -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, 0), family=family)


class Troubled(socket.socket):
    """A listening socket whose ``accept`` fails with these errors first."""

    errors: list[int]

    def accept(self) -> tuple[socket.socket, Any]:
        if self.errors:
            raise OSError(self.errors.pop(0), "trouble")
        return super().accept()


def troubled(*errors: int) -> Troubled:
    sock = Troubled(socket.AF_INET, socket.SOCK_STREAM)
    sock.errors = list(errors)
    sock.bind(("127.0.0.1", 0))
    sock.listen()
    return sock


@pytest.mark.parametrize("host", LOOPBACKS)
async def test_connections_are_handed_over_in_their_order(host: str) -> None:
    async with nothing_left_open():
        sock = listening(host)
        acceptor = Acceptor(sock)
        callers = [await call(sock.getsockname()[:2]) for _ in range(3)]
        for caller in callers:
            with await acceptor.accept() as accepted:
                assert accepted.getpeername() == caller.socket.getsockname()
            caller.close()
        acceptor.close()


async def test_closing_wakes_whoever_waits() -> None:
    async with nothing_left_open():
        acceptor = Acceptor(listening())
        waiting = asyncio.get_running_loop().create_task(acceptor.accept())
        await turns()
        acceptor.close()
        acceptor.close()
        with pytest.raises(StreamBroken):
            await waiting
        with pytest.raises(StreamBroken):
            await acceptor.accept()


async def test_running_out_of_descriptors_is_waited_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accepting, "EXHAUSTED_PAUSE", 0.001)
    async with nothing_left_open():
        sock = troubled(errno.EMFILE, errno.ENFILE, errno.ECONNABORTED)
        acceptor = Acceptor(sock)
        caller = await call(sock.getsockname())
        (await acceptor.accept()).close()
        assert not sock.errors
        caller.close()
        acceptor.close()


async def test_a_listening_socket_that_fails_for_good_ends_the_waiting() -> None:
    async with nothing_left_open():
        acceptor = Acceptor(troubled(errno.EINVAL))
        with pytest.raises(StreamBroken):
            await acceptor.accept()
        acceptor.close()


async def test_a_flood_of_connections_leaves_turns_for_others() -> None:
    async with nothing_left_open():
        sock = listening()
        acceptor = Acceptor(sock)
        callers = [await call(sock.getsockname()) for _ in range(5)]
        ticks: list[None] = []
        for _ in callers:
            asyncio.get_running_loop().call_soon(ticks.append, None)
            before = len(ticks)
            (await acceptor.accept()).close()
            assert len(ticks) > before
        for caller in callers:
            caller.close()
        acceptor.close()
