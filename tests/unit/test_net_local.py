from __future__ import annotations

import asyncio
import os
import socket
import stat
import struct
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from telepathy_e2e.errors import InvalidArgument, NotAvailable, NotImplementedByUs
from telepathy_e2e.net import local
from telepathy_e2e.net.local import SUPPORTED, LocalListener, listen
from telepathy_e2e.net.streams import SocketStream, StreamBroken
from tests.support.waiting import PATIENCE

from .net_support import call, nothing_left_open, read_all, turns

UNIX, ABSTRACT, IPV4, IPV6 = range(4)
LOCALHOST, PORT, NETMASK, CREDENTIALS = range(4)
NOBODY = 65534
TYPES = [
    pytest.param(UNIX, id="unix"),
    pytest.param(ABSTRACT, id="abstract"),
    pytest.param(IPV4, id="ipv4"),
    pytest.param(IPV6, id="ipv6"),
]
UNIX_TYPES = TYPES[:2]
IP_TYPES = TYPES[2:]

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="becoming another user takes root")


@pytest.fixture(autouse=True)
async def _no_leak(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    async with nothing_left_open():
        yield
    assert list(tmp_path.iterdir()) == []


def loopback(address_type: int) -> str:
    return "127.0.0.1" if address_type == IPV4 else "::1"


def unused_port(address_type: int) -> int:
    family = socket.AF_INET if address_type == IPV4 else socket.AF_INET6
    with socket.create_server((loopback(address_type), 0), family=family) as sock:
        port: int = sock.getsockname()[1]
        return port


async def is_closed(stream: SocketStream) -> bool:
    """Whether the other side has hung up without a word; waits for it."""
    try:
        return await read_all(stream) == b""
    except StreamBroken:
        return True


async def accepted(listener: LocalListener, client: SocketStream) -> bool:
    """Whether that client, and nobody before it, is let in and can speak."""
    stream = await listener.accept()
    await client.write(b"file")
    heard = await stream.read(10) == b"file"
    stream.close()
    return heard


def become_nobody_and_call(address: str | bytes) -> int:
    """Fork a caller of another user; exits with the errno of connect, or 0 if hung up on."""
    child = os.fork()
    if child:
        return child
    code = 99
    try:
        os.setgid(NOBODY)
        os.setuid(NOBODY)
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(PATIENCE)
            try:
                sock.connect(address)
                sock.send(b"\0")
                code = 0 if sock.recv(1) == b"" else 98
            except (ConnectionResetError, BrokenPipeError):
                # Hung up on before the byte was sent, or before it was read.
                code = 0
            except OSError as error:
                code = error.errno or 97
    finally:
        os._exit(code)


async def exit_code(child: int) -> int:
    _, status = await asyncio.to_thread(os.waitpid, child, 0)
    return os.waitstatus_to_exitcode(status)


@pytest.mark.parametrize("address_type", TYPES)
async def test_a_client_is_let_in_and_speaks_both_ways(address_type: int) -> None:
    listener = await listen(address_type, LOCALHOST, "ignored")
    client = await call(listener.address)
    stream = await listener.accept()
    await client.write(b"to the listener")
    assert await stream.read(100) == b"to the listener"
    await stream.write(b"to the client")
    await stream.write_eof()
    assert await read_all(client) == b"to the client"
    for each in (client, stream, listener):
        each.close()


async def test_addresses_are_what_dbus_wants() -> None:
    unix, abstract, four, six = [await listen(kind, LOCALHOST, 0) for kind in range(4)]
    assert isinstance(unix.address, bytes)
    assert stat.S_ISSOCK(os.stat(unix.address).st_mode)
    assert isinstance(abstract.address, bytes)
    assert abstract.address[:1] == b"\0"
    assert four.address == ("127.0.0.1", four._acceptor._sock.getsockname()[1])
    assert six.address[0] == "::1"
    signatures = [listener.signature for listener in (unix, abstract, four, six)]
    assert signatures == ["ay", "ay", "(sq)", "(sq)"]
    for listener in (unix, abstract, four, six):
        listener.close()


@pytest.mark.parametrize("address_type", TYPES)
async def test_there_is_no_second_connection(address_type: int) -> None:
    listener = await listen(address_type, LOCALHOST, 0)
    first = await call(listener.address)
    queued = await call(listener.address)
    stream = await listener.accept()
    assert await is_closed(queued)
    with pytest.raises((ConnectionRefusedError, FileNotFoundError)):
        await call(listener.address)
    with pytest.raises(StreamBroken):
        await listener.accept()
    for each in (first, queued, stream):
        each.close()


@pytest.mark.parametrize("address_type", TYPES)
async def test_closing_leaves_nothing_and_wakes_whoever_waits(address_type: int) -> None:
    listener = await listen(address_type, LOCALHOST, 0)
    waiting = asyncio.get_running_loop().create_task(listener.accept())
    await turns()
    listener.close()
    listener.close()
    with pytest.raises(StreamBroken):
        await waiting
    with pytest.raises((ConnectionRefusedError, FileNotFoundError)):
        await call(listener.address)


async def test_the_path_is_in_a_directory_of_its_own_that_goes_with_the_first_connection(
    tmp_path: Path,
) -> None:
    listener = await listen(UNIX, LOCALHOST, 0)
    assert isinstance(listener.address, bytes)
    path = Path(os.fsdecode(listener.address))
    assert path.parent.parent == tmp_path
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    client = await call(listener.address)
    (await listener.accept()).close()
    assert not path.parent.exists()
    client.close()


@pytest.mark.parametrize("why", ["unset", "relative", "missing", "a file", "open to all", "long"])
async def test_a_runtime_directory_that_is_no_good_is_not_used(
    why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = tmp_path / ("x" * 100 if why == "long" else "runtime")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    if why == "a file":
        directory.touch()
    elif why in ("open to all", "long"):
        directory.mkdir()
    if why == "open to all":
        directory.chmod(0o777)
    monkeypatch.setenv("XDG_RUNTIME_DIR", "runtime" if why == "relative" else str(directory))
    if why == "unset":
        monkeypatch.delenv("XDG_RUNTIME_DIR")
    listener = await listen(UNIX, LOCALHOST, 0)
    assert isinstance(listener.address, bytes)
    assert Path(os.fsdecode(listener.address)).parent.parent == tmp_path
    listener.close()
    if directory.exists():
        directory.unlink() if why == "a file" else directory.rmdir()


async def test_no_socket_to_be_had_is_not_available_and_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: object) -> None:
        raise OSError("none left")

    monkeypatch.setattr(socket.socket, "listen", fail)
    for kind in (UNIX, ABSTRACT, IPV4, IPV6):
        with pytest.raises(NotAvailable):
            await listen(kind, LOCALHOST, 0)


@pytest.mark.parametrize("address_type", range(-1, 6))
@pytest.mark.parametrize("access_control", range(-1, 6))
async def test_what_is_not_in_the_table_is_not_implemented(
    address_type: int, access_control: int
) -> None:
    parameter = (loopback(address_type), 1)
    if access_control in SUPPORTED.get(address_type, []):
        (await listen(address_type, access_control, parameter)).close()
    else:
        with pytest.raises(NotImplementedByUs):
            await listen(address_type, access_control, parameter)


def test_the_table_has_plain_integers_and_what_clients_rely_on() -> None:
    assert SUPPORTED == {0: [0, 3], 1: [0, 3], 2: [0, 1], 3: [0, 1]}
    for address_type, controls in SUPPORTED.items():
        assert {type(each) for each in (address_type, *controls)} == {int}


@pytest.mark.parametrize("address_type", UNIX_TYPES)
@pytest.mark.parametrize("access_control", [LOCALHOST, CREDENTIALS])
async def test_another_user_is_refused(
    address_type: int, access_control: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = os.geteuid()
    listener = await listen(address_type, access_control, 0)
    monkeypatch.setattr(os, "geteuid", lambda: own + 1)
    stranger = await call(listener.address)
    waiting = asyncio.get_running_loop().create_task(listener.accept())
    assert await is_closed(stranger)
    assert not waiting.done()
    stranger.close()
    monkeypatch.setattr(os, "geteuid", lambda: own)
    client = await call(listener.address)
    await client.write(b"\0")
    (await waiting).close()
    client.close()


@as_root
async def test_a_process_of_another_user_does_not_get_at_an_abstract_socket() -> None:
    listener = await listen(ABSTRACT, LOCALHOST, 0)
    assert isinstance(listener.address, bytes)
    child = become_nobody_and_call(listener.address)
    waiting = asyncio.get_running_loop().create_task(listener.accept())
    assert await exit_code(child) == 0
    assert not waiting.done()
    client = await call(listener.address)
    (await waiting).close()
    client.close()


@as_root
async def test_a_process_of_another_user_does_not_get_into_the_directory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as directory:
        os.chmod(directory, 0o755)  # noqa: S103 - up to here anybody may come
        monkeypatch.setenv("XDG_RUNTIME_DIR", directory)
        listener = await listen(UNIX, LOCALHOST, 0)
        assert isinstance(listener.address, bytes)
        child = become_nobody_and_call(listener.address)
        assert await exit_code(child) == PermissionError(13, "").errno
        listener.close()


@as_root
async def test_a_process_of_another_user_is_refused_even_if_it_gets_into_the_directory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as directory:
        os.chmod(directory, 0o755)  # noqa: S103
        monkeypatch.setenv("XDG_RUNTIME_DIR", directory)
        listener = await listen(UNIX, LOCALHOST, 0)
        assert isinstance(listener.address, bytes)
        os.chmod(os.path.dirname(listener.address), 0o755)  # noqa: S103
        os.chmod(listener.address, 0o777)  # noqa: S103
        child = become_nobody_and_call(listener.address)
        waiting = asyncio.get_running_loop().create_task(listener.accept())
        code = await exit_code(child)
        answered = waiting.done()
        listener.close()
        with pytest.raises(StreamBroken):
            await waiting
        assert code == 0
        assert not answered


@pytest.mark.parametrize("address_type", UNIX_TYPES)
@pytest.mark.parametrize("with_credentials", [True, False])
async def test_the_byte_of_the_credentials_is_not_part_of_the_data(
    address_type: int, with_credentials: bool
) -> None:
    listener = await listen(address_type, CREDENTIALS, 0)
    client = await call(listener.address)
    if with_credentials:
        client.socket.sendmsg([b"\x07"], [credentials(os.geteuid())])
    else:
        await client.write(b"\x07")
    assert await accepted(listener, client)
    client.close()


async def test_the_byte_and_the_data_may_come_as_one() -> None:
    listener = await listen(UNIX, CREDENTIALS, 0)
    client = await call(listener.address)
    client.socket.sendmsg([b"\x07data"], [credentials(os.geteuid())])
    stream = await listener.accept()
    assert await stream.read(100) == b"data"
    client.close()
    stream.close()


async def test_the_byte_may_come_late() -> None:
    listener = await listen(UNIX, CREDENTIALS, 0)
    client = await call(listener.address)
    waiting = asyncio.get_running_loop().create_task(listener.accept())
    await turns()
    assert not waiting.done()
    await client.write(b"\x07")
    (await waiting).close()
    client.close()


@as_root
async def test_credentials_of_another_user_are_refused() -> None:
    listener = await listen(UNIX, CREDENTIALS, 0)
    liar = await call(listener.address)
    liar.socket.sendmsg([b"\x07"], [credentials(NOBODY)])
    waiting = asyncio.get_running_loop().create_task(listener.accept())
    assert await is_closed(liar)
    client = await call(listener.address)
    await client.write(b"\x07")
    (await waiting).close()
    client.close()
    liar.close()


def credentials(uid: int) -> tuple[int, int, bytes]:
    data = struct.pack("3i", os.getpid(), uid, os.getegid())
    return socket.SOL_SOCKET, socket.SCM_CREDENTIALS, data


async def test_a_client_that_leaves_before_the_byte_does_not_count() -> None:
    listener = await listen(UNIX, CREDENTIALS, 0)
    (await call(listener.address)).close()
    client = await call(listener.address)
    await client.write(b"\x07")
    assert await accepted(listener, client)
    client.close()


async def test_a_client_that_never_sends_the_byte_does_not_keep_the_next_one_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(local, "CREDENTIALS_SECONDS", 0.02)
    listener = await listen(UNIX, CREDENTIALS, 0)
    silent, client = await call(listener.address), await call(listener.address)
    await client.write(b"\x07")
    assert await accepted(listener, client)
    assert await is_closed(silent)
    silent.close()
    client.close()


@pytest.mark.parametrize(
    ("how", "error"), [("close", StreamBroken), ("cancel", asyncio.CancelledError)]
)
async def test_giving_up_while_waiting_for_the_byte_leaves_nothing(
    how: str, error: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "CREDENTIALS_SECONDS", 3600.0)
    listener = await listen(UNIX, CREDENTIALS, 0)
    silent = await call(listener.address)
    waiting = asyncio.get_running_loop().create_task(listener.accept())
    await turns()
    listener.close() if how == "close" else waiting.cancel()
    with pytest.raises(error):
        await waiting
    assert await is_closed(silent)
    listener.close()
    silent.close()


@pytest.mark.parametrize("address_type", IP_TYPES)
@pytest.mark.parametrize("announced", ["the address", "any address", "a list"])
async def test_only_the_announced_port_is_let_in(address_type: int, announced: str) -> None:
    host = loopback(address_type)
    port = unused_port(address_type)
    if announced == "any address":  # what telepathy-glib sends
        host = "0.0.0.0" if address_type == IPV4 else "::"  # noqa: S104
    parameter = [host, port] if announced == "a list" else (host, port)
    listener = await listen(address_type, PORT, parameter)
    waiting = asyncio.get_running_loop().create_task(listener.accept())
    stranger = await call(listener.address)
    assert await is_closed(stranger)
    assert not waiting.done()
    client = await call(listener.address, source=port)
    stream = await waiting
    assert stream.socket.getpeername()[1] == port
    client.abort()
    for each in (stranger, stream):
        each.close()


async def test_the_right_port_at_another_address_is_refused() -> None:
    port = unused_port(IPV4)
    listener = await listen(IPV4, PORT, ("127.0.0.2", port))
    waiting = asyncio.get_running_loop().create_task(listener.accept())
    stranger = await call(listener.address, source=port)
    assert await is_closed(stranger)
    assert not waiting.done()
    listener.close()
    with pytest.raises(StreamBroken):
        await waiting
    stranger.close()


@pytest.mark.parametrize(
    "parameter",
    [
        None,
        0,
        "127.0.0.1:80",
        [],
        ("127.0.0.1",),
        ("127.0.0.1", 80, 0),
        ("127.0.0.1", "80"),
        ("127.0.0.1", 0),
        ("127.0.0.1", 65536),
        (b"127.0.0.1", 80),
        ("localhost", 80),
        ("::1", 80),
        ("", 80),
    ],
)
async def test_a_port_parameter_that_makes_no_sense_is_an_invalid_argument(
    parameter: object,
) -> None:
    with pytest.raises(InvalidArgument):
        await listen(IPV4, PORT, parameter)


async def test_addresses_of_the_wrong_family_are_an_invalid_argument() -> None:
    with pytest.raises(InvalidArgument):
        await listen(IPV6, PORT, ("127.0.0.1", 80))
