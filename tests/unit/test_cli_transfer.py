import asyncio
import socket
from typing import Any

import pytest

from telepathy_e2e.cli import names
from telepathy_e2e.cli.exits import Exit
from telepathy_e2e.cli.transfer import Guard, open_socket, socket_choice


class Channel:
    def __init__(self, **values: Any) -> None:
        self.values = values

    def get(self, interface: str, name: str, default: object = None) -> object:
        return self.values.get(name, default)


@pytest.mark.parametrize(
    ("available", "chosen"),
    [
        ({0: [0, 3], 2: [0, 1]}, (names.UNIX, names.LOCALHOST)),
        ({0: [3], 2: [0]}, (names.IPV4, names.LOCALHOST)),
        ({2: [0]}, (names.IPV4, names.LOCALHOST)),
    ],
)
def test_a_unix_socket_is_preferred_and_ipv4_taken(
    available: dict[int, list[int]], chosen: tuple[int, int]
) -> None:
    assert socket_choice(available) == chosen


def test_a_daemon_without_a_usable_socket_is_said() -> None:
    with pytest.raises(Exit, match="no kind of socket"):
        socket_choice({3: [0]})


async def test_an_ipv4_address_is_connected_to() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        with await open_socket(names.IPV4, list(server.getsockname())) as ours:
            theirs, address = await asyncio.to_thread(server.accept)
            with theirs:
                assert address == ours.getsockname()


async def test_a_socket_that_is_gone_is_said() -> None:
    with pytest.raises(Exit, match="socket is gone"):
        await open_socket(names.UNIX, b"/nonexistent/socket\0")


@pytest.mark.parametrize(
    ("require", "encrypted", "verified", "passes"),
    [
        (None, False, False, True),
        ("encrypted", False, False, False),
        ("encrypted", True, False, True),
        ("verified", True, False, False),
        ("verified", False, True, False),
        ("verified", True, True, True),
    ],
)
def test_the_guard_lets_through_what_was_demanded_and_no_less(
    require: str | None, encrypted: bool, verified: bool, passes: bool
) -> None:
    channel: Any = Channel(Encrypted=encrypted, Verified=verified)
    if passes:
        Guard(require).check(channel)
    else:
        with pytest.raises(Exit) as caught:
            Guard(require).check(channel)
        assert caught.value.code == 3
