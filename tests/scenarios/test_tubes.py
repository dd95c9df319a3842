"""A local service shared with a contact: real daemons, a real server, real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import socket
import struct
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from dbus_fast import Variant

from telepathy_e2e.tubes.limits import Limits
from tests.support.pair import Pair
from tests.support.prosody import Prosody, free_ports
from tests.support.side import (
    CAPABILITIES,
    CHANNEL,
    CONNECTION,
    E2E,
    REQUESTS,
    SECURABLE,
    TP,
    VERIFICATION,
    DBusFailure,
    descriptors,
)
from tests.support.tubes import (
    ABSTRACT,
    CREDENTIALS,
    DBUS_TUBE,
    IPV4,
    IPV6,
    LOCAL_PENDING,
    LOCALHOST,
    NETMASK,
    NOT_OFFERED,
    OPEN,
    PORT,
    REMOTE_PENDING,
    STREAM_TUBE,
    TUBE,
    UNIX,
    OpenTube,
    accept,
    announce_service,
    closed,
    connect,
    connection_closed,
    echo,
    error_of,
    offer,
    opened,
    request,
    service,
    state,
    talk,
    told,
)
from tests.support.waiting import PATIENCE, until

ERROR = TP + "Error."
NOBODY = 65534

pytestmark = pytest.mark.asyncio(loop_scope="module")

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="becoming another user takes root")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def one_pair(prosody: Prosody) -> AsyncIterator[Pair]:
    pair = await Pair.start(prosody)
    yield pair
    await pair.stop()


@pytest_asyncio.fixture(loop_scope="module")
async def pair(one_pair: Pair) -> Pair:
    """The same for all tests; each sees its own signals."""
    one_pair.alice.signals.clear()
    one_pair.bob.signals.clear()
    return one_pair


# -- sockets and access control ---------------------------------------------------------------


class Observer:
    """An echo service that notes who connects, as access control lets it know."""

    def __init__(self, kind: int, control: int) -> None:
        self.kind, self.control = kind, control
        self.seen: list[Any] = []

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.control == CREDENTIALS:
            self.seen.append((await reader.readexactly(1))[0])
        elif self.kind in (IPV4, IPV6):
            self.seen.append(tuple(writer.get_extra_info("peername")[:2]))
        else:
            self.seen.append(0)
        await echo(reader, writer)


@pytest.mark.parametrize(
    ("kind", "control"),
    [
        (UNIX, LOCALHOST),
        (UNIX, CREDENTIALS),
        (ABSTRACT, LOCALHOST),
        (ABSTRACT, CREDENTIALS),
        (IPV4, LOCALHOST),
        (IPV4, PORT),
        (IPV4, NETMASK),
        (IPV6, LOCALHOST),
        (IPV6, PORT),
        (IPV6, NETMASK),
    ],
)
async def test_a_service_is_shared_over_any_socket_with_any_access_control(
    pair: Pair, kind: int, control: int, tmp_path: Path
) -> None:
    host = "127.0.0.1" if kind == IPV4 else "::1"
    param, own = Variant("u", 0), None
    if control == PORT:
        own = (host, free_ports(1)[0])
        param = Variant("(sq)", list(own))
    elif control == NETMASK:
        param = Variant("(sy)", [host, 8 if kind == IPV4 else 128])
    observer = Observer(kind, control)
    async with service(kind, tmp_path, observer) as address:
        both = (kind, control)
        tube = await opened(pair, address, offered=both, accepted=both, param=param)
        reader, writer = await tube.connect(own)
        if control == CREDENTIALS:
            writer.write(b"\x2a")
        data = secrets.token_bytes(300_000)
        assert await talk(reader, writer, data) == data
        writer.close()

        # Both sides name the connection alike, and the service can tell which it is.
        await connection_closed(pair.alice, tube.mine)
        await connection_closed(pair.bob, tube.theirs)
        (remote,) = told(pair.alice, tube.mine, "NewRemoteConnection")
        (local,) = told(pair.bob, tube.theirs, "NewLocalConnection")
        handle, seen, number = remote.body
        assert local.body == (number,)
        assert await pair.alice.get(tube.mine, CHANNEL, "TargetHandle") == handle
        assert observer.seen == [tuple(seen) if isinstance(seen, list | tuple) else seen]
        for side, path in ((pair.alice, tube.mine), (pair.bob, tube.theirs)):
            (over,) = told(side, path, "ConnectionClosed")
            assert over.body[:2] == (number, ERROR + "Cancelled")
        await tube.close()


async def turned_away(tube: OpenTube, own: tuple[str, int] | None = None) -> None:
    """A connection that comes to nothing, be it while it is made."""
    with contextlib.suppress(ConnectionError):
        reader, writer = await tube.connect(own)
        try:
            assert await reader.read() == b""
        finally:
            writer.close()


@pytest.mark.parametrize(("kind", "host"), [(IPV4, "127.0.0.1"), (IPV6, "::1")])
async def test_a_program_at_another_port_is_turned_away(
    pair: Pair, kind: int, host: str, tmp_path: Path
) -> None:
    own = (host, free_ports(1)[0])
    async with service(UNIX, tmp_path) as address:
        param = Variant("(sq)", list(own))
        tube = await opened(pair, address, accepted=(kind, PORT), param=param)
        await turned_away(tube)
        reader, writer = await tube.connect(own)
        assert await talk(reader, writer, b"the right one") == b"the right one"
        writer.close()
        # Over the bus signals come behind what goes through the socket; this one is the last.
        await connection_closed(pair.bob, tube.theirs)
        assert len(told(pair.bob, tube.theirs, "NewLocalConnection")) == 1
        await tube.close()


async def test_a_program_outside_the_network_is_turned_away(pair: Pair, tmp_path: Path) -> None:
    async with service(UNIX, tmp_path) as address:
        param = Variant("(sy)", ["127.0.0.1", 32])
        tube = await opened(pair, address, accepted=(IPV4, NETMASK), param=param)
        assert tube.address[0] == "127.0.0.1"
        await turned_away(tube, ("127.0.0.2", 0))
        assert await tube.echoed(b"inside") == b"inside"
        await tube.close()


@as_root
@pytest.mark.parametrize("control", [LOCALHOST, CREDENTIALS])
@pytest.mark.parametrize("kind", [UNIX, ABSTRACT])
async def test_another_user_of_the_machine_does_not_get_into_the_tube(
    pair: Pair, kind: int, control: int, tmp_path: Path
) -> None:
    script = (
        "import os, socket, sys\n"
        f"os.setgid({NOBODY}); os.setuid({NOBODY})\n"
        "sock = socket.socket(socket.AF_UNIX); sock.settimeout(200)\n"
        "try:\n"
        "    sock.connect(bytes.fromhex(sys.argv[1])); sock.sendall(b'\\0hello')\n"
        "    sys.exit(0 if sock.recv(1) == b'' else 3)\n"
        "except (PermissionError, ConnectionError, FileNotFoundError):\n"
        "    sys.exit(0)\n"
    )
    async with service(UNIX, tmp_path) as address:
        tube = await opened(pair, address, accepted=(kind, control))
        if kind == UNIX:  # even if somebody lets them into the directory
            path = Path(os.fsdecode(tube.address))
            path.parent.chmod(0o755)
            path.chmod(0o777)
            pair.bob.directory.chmod(0o755)
        command = [sys.executable, "-c", script, bytes(tube.address).hex()]
        done = await asyncio.to_thread(subprocess.run, command, check=False)
        assert done.returncode == 0
        reader, writer = await tube.connect()
        if control == CREDENTIALS:
            writer.write(b"\0")
        assert await talk(reader, writer, b"ours") == b"ours"
        writer.close()
        # Over the bus signals come behind what goes through the socket; this one is the last.
        await connection_closed(pair.bob, tube.theirs)
        assert len(told(pair.bob, tube.theirs, "NewLocalConnection")) == 1
        await tube.close()


# -- connections ------------------------------------------------------------------------------


async def test_half_a_connection_stays_open(pair: Pair, tmp_path: Path) -> None:
    """A service that answers only when it has read the end."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked = await reader.read()
        for _ in range(3):
            writer.write(asked[::-1])
            await writer.drain()
        writer.close()

    async with service(IPV4, tmp_path, serve) as address:
        tube = await opened(pair, address, offered=(IPV4, LOCALHOST), accepted=(IPV4, LOCALHOST))
        data = secrets.token_bytes(200_000)
        assert await tube.echoed(data) == data[::-1] * 3
        await tube.close()


async def test_a_thousand_connections_and_one_of_them_stuck(pair: Pair, tmp_path: Path) -> None:
    stuck = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        kind = await reader.readexactly(1)
        if kind == b"s":
            await stuck.wait()  # reads nothing
        await echo(reader, writer)

    async with service(UNIX, tmp_path, serve) as address:
        tube = await opened(pair, address)
        lazy_reader, lazy = await tube.connect()
        flood = secrets.token_bytes(4_000_000)
        lazy.write(b"s" + flood)
        others = [await tube.connect() for _ in range(999)]
        for _, writer in others:
            writer.write(b"e" + b"x" * 1000)
        for reader, _ in others:
            async with asyncio.timeout(PATIENCE):
                assert await reader.readexactly(1000) == b"x" * 1000
        await until(lambda: len(told(pair.bob, tube.theirs, "NewLocalConnection")) == 1000)
        # The stuck one comes to itself, and has lost nothing.
        stuck.set()
        lazy.write_eof()
        async with asyncio.timeout(PATIENCE):
            assert await lazy_reader.read() == flood
        for _, writer in [*others, (lazy_reader, lazy)]:
            writer.close()
        await tube.close()


@pytest.mark.timeout(1200)
async def test_ten_thousand_connections_are_opened_and_closed(pair: Pair, tmp_path: Path) -> None:
    """Afterwards nothing of them is held: as many as may be open at once still can be."""
    count, workers, at_once = 10_000, 50, Limits().own_connections

    async def work(tube: OpenTube, times: int) -> None:
        for _ in range(times):
            assert await tube.echoed(b"hello") == b"hello"

    async with service(UNIX, tmp_path) as address:
        tube = await opened(pair, address)
        ends = ((pair.alice, tube.mine), (pair.bob, tube.theirs))
        # Those of roads that were not taken may still be among them.
        before = [descriptors(side) for side, _ in ends]

        def none_left() -> bool:
            return all(descriptors(side) <= n for (side, _), n in zip(ends, before, strict=True))

        await asyncio.gather(*(work(tube, count // workers) for _ in range(workers)))
        for side, path in ends:
            assert len(await connection_closed(side, path, count)) == count
        await until(none_left)
        # One that was not forgotten would take the place of one of these.
        open_at_once = [await tube.connect() for _ in range(at_once)]
        for reader, writer in open_at_once:
            writer.write(b"hello")
            assert await reader.readexactly(5) == b"hello"
        for _, writer in open_at_once:
            writer.close()
        for side, path in ends:
            await connection_closed(side, path, count + at_once)
        await until(none_left)
        await tube.close()


async def test_a_service_that_refuses_is_told_from_one_that_ends(
    pair: Pair, tmp_path: Path
) -> None:
    async with service(UNIX, tmp_path) as address:
        pass  # nobody listens any more
    tube = await opened(pair, address)
    await turned_away(tube)
    for side, path in ((pair.alice, tube.mine), (pair.bob, tube.theirs)):
        assert await connection_closed(side, path) == [ERROR + "ConnectionRefused"]
    assert not told(pair.alice, tube.mine, "NewRemoteConnection")
    assert await pair.bob.get(tube.theirs, TUBE, "State") == OPEN
    await tube.close()


@pytest.mark.parametrize("dies", ["program", "service"])
async def test_a_local_program_that_dies_takes_its_own_connection_alone(
    pair: Pair, dies: str, tmp_path: Path
) -> None:
    served: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        served.append(writer)
        await echo(reader, writer)

    async with service(IPV4, tmp_path, serve) as address:
        tube = await opened(pair, address, offered=(IPV4, LOCALHOST), accepted=(IPV4, LOCALHOST))
        reader, writer = await tube.connect()
        writer.write(b"one")
        assert await reader.readexactly(3) == b"one"
        other_reader, other = await tube.connect()
        other.write(b"two")
        assert await other_reader.readexactly(3) == b"two"
        # What the kernel does for a program that is killed with data unread.
        killed = writer if dies == "program" else served[0]
        killed.get_extra_info("socket").setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
        )
        killed.transport.abort()
        for side, path in ((pair.alice, tube.mine), (pair.bob, tube.theirs)):
            await connection_closed(side, path)
        with contextlib.suppress(ConnectionError):
            assert await reader.read() == b""
        assert await talk(other_reader, other, b"still") == b"still"
        other.close()
        writer.close()
        await tube.close()


async def test_what_is_written_before_the_tube_is_open_arrives(pair: Pair, tmp_path: Path) -> None:
    """No program should, and some will."""
    async with service(UNIX, tmp_path) as address:
        mine, theirs = await offer(pair, address, UNIX)
        where = await accept(pair.bob, theirs, UNIX)
        reader, writer = await connect(UNIX, where)
        assert await talk(reader, writer, b"early" * 1000) == b"early" * 1000
        writer.close()
        await pair.alice.cm(mine, CHANNEL, "Close")
        await closed(pair.bob, theirs)


# -- the channel ------------------------------------------------------------------------------


async def test_parameters_and_services_are_told_with_their_types(
    pair: Pair, tmp_path: Path
) -> None:
    given = {
        "user": Variant("s", "alice\r\n\x01"),
        "cookie": Variant("ay", b"\x00\xff"),
        "display": Variant("u", 2**32 - 1),
        "level": Variant("i", -5),
        "shared": Variant("b", True),
        "size": Variant("t", 2**63),
    }
    plain = {name: each.value for name, each in given.items()}
    async with service(UNIX, tmp_path) as address:
        mine = await request(pair.alice, pair.server.jid("bob"), "rfb")
        assert await pair.alice.get_all(mine, TUBE) == {"Parameters": {}, "State": NOT_OFFERED}
        arguments = (STREAM_TUBE, "Offer", "uvua{sv}", UNIX, address, LOCALHOST, given)
        before = len([s for s in pair.bob.signals if s.member == "TubeChannelStateChanged"])
        skip = len([p for p in incoming(pair) if p])
        await pair.alice.cm(mine, *arguments)
        await state(pair.alice, mine, REMOTE_PENDING)
        assert (await pair.alice.get_all(mine, TUBE))["Parameters"] == plain
        theirs, shown = await pair.bob.new_channel(STREAM_TUBE, skip=skip)
        assert shown[STREAM_TUBE + ".Service"] == "rfb"
        assert shown[TUBE + ".Parameters"] == plain
        assert shown[STREAM_TUBE + ".SupportedSocketTypes"] == {
            UNIX: [LOCALHOST, CREDENTIALS],
            ABSTRACT: [LOCALHOST, CREDENTIALS],
            IPV4: [LOCALHOST, PORT, NETMASK],
            IPV6: [LOCALHOST, PORT, NETMASK],
        }
        assert shown[CHANNEL + ".Interfaces"] == [TUBE, SECURABLE, E2E]
        assert await pair.bob.get(theirs, TUBE, "State") == LOCAL_PENDING
        assert len([s for s in pair.bob.signals if s.member == "TubeChannelStateChanged"]) == before
        with pytest.raises(DBusFailure) as failure:
            await pair.alice.cm(mine, *arguments)
        assert failure.value.name == ERROR + "NotAvailable"
        # Declined: it was never accepted.
        await pair.bob.cm(theirs, CHANNEL, "Close")
        await closed(pair.alice, mine)
        assert error_of(pair.alice, mine) == ERROR + "Terminated"


def incoming(pair: Pair) -> list[str]:
    return [
        path
        for each in pair.bob.signals
        if each.member == "NewChannels"
        for path, properties in each.body[0]
        if properties[CHANNEL + ".ChannelType"] == STREAM_TUBE
    ]


async def test_an_offer_that_is_taken_back_is_gone(pair: Pair, tmp_path: Path) -> None:
    async with service(UNIX, tmp_path) as address:
        mine, theirs = await offer(pair, address, UNIX)
        await pair.alice.cm(mine, CHANNEL, "Close")
        await closed(pair.bob, theirs)
        assert error_of(pair.bob, theirs) == ERROR + "Terminated"


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ((UNIX, Variant("ay", b"/nowhere"), PORT, {}), "NotImplemented"),
        ((IPV4, Variant("(sq)", ["127.0.0.1", 80]), CREDENTIALS, {}), "NotImplemented"),
        ((7, Variant("ay", b"/nowhere"), LOCALHOST, {}), "NotImplemented"),
        ((UNIX, Variant("s", "/nowhere"), LOCALHOST, {}), "InvalidArgument"),
        ((UNIX, Variant("ay", b"\0abstract"), LOCALHOST, {}), "InvalidArgument"),
        ((IPV4, Variant("(sq)", ["localhost", 80]), LOCALHOST, {}), "InvalidArgument"),
        ((IPV4, Variant("(sq)", ["::1", 80]), LOCALHOST, {}), "InvalidArgument"),
        ((IPV6, Variant("(sq)", ["::1", 0]), LOCALHOST, {}), "InvalidArgument"),
        (
            (UNIX, Variant("ay", b"/nowhere"), LOCALHOST, {"x": Variant("d", 0.5)}),
            "InvalidArgument",
        ),
    ],
)
async def test_what_cannot_be_offered_is_refused_and_can_be_offered_better(
    pair: Pair, arguments: tuple[Any, ...], error: str
) -> None:
    mine = await request(pair.alice, pair.server.jid("bob"))
    with pytest.raises(DBusFailure) as failure:
        await pair.alice.cm(mine, STREAM_TUBE, "Offer", "uvua{sv}", *arguments)
    assert failure.value.name == ERROR + error
    assert await pair.alice.get(mine, TUBE, "State") == NOT_OFFERED
    await pair.alice.cm(mine, CHANNEL, "Close")
    await closed(pair.alice, mine)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ((UNIX, PORT, Variant("u", 0)), "NotImplemented"),
        ((IPV4, CREDENTIALS, Variant("u", 0)), "NotImplemented"),
        ((IPV4, PORT, Variant("u", 0)), "InvalidArgument"),
        ((IPV4, PORT, Variant("(sq)", ["::1", 80])), "InvalidArgument"),
        ((IPV4, NETMASK, Variant("(sy)", ["10.0.0.0", 33])), "InvalidArgument"),
        ((IPV6, NETMASK, Variant("(sy)", ["10.0.0.0", 8])), "InvalidArgument"),
        ((IPV4, NETMASK, Variant("(sy)", ["203.0.113.0", 24])), "NotAvailable"),
    ],
)
async def test_what_cannot_be_accepted_so_can_be_accepted_otherwise(
    pair: Pair, arguments: tuple[Any, ...], error: str, tmp_path: Path
) -> None:
    async with service(UNIX, tmp_path) as address:
        mine, theirs = await offer(pair, address, UNIX)
        with pytest.raises(DBusFailure) as failure:
            await pair.bob.cm(theirs, STREAM_TUBE, "Accept", "uuv", *arguments)
        assert failure.value.name == ERROR + error
        tube = OpenTube(pair, UNIX)
        tube.mine, tube.theirs = mine, theirs
        tube.address = await accept(pair.bob, theirs, UNIX)
        await state(pair.bob, theirs, OPEN)
        assert await tube.echoed(b"otherwise") == b"otherwise"
        await tube.close()


async def test_the_one_who_accepted_can_close_it_too(pair: Pair, tmp_path: Path) -> None:
    async with service(UNIX, tmp_path) as address:
        tube = await opened(pair, address)
        reader, writer = await tube.connect()
        writer.write(b"x")
        await reader.readexactly(1)
        await pair.bob.cm(tube.theirs, CHANNEL, "Close")
        await asyncio.gather(closed(pair.bob, tube.theirs), closed(pair.alice, tube.mine))
        assert error_of(pair.bob, tube.theirs) == ERROR + "Cancelled"
        assert error_of(pair.alice, tube.mine) == ERROR + "Terminated"
        for side, path in ((pair.alice, tube.mine), (pair.bob, tube.theirs)):
            assert await connection_closed(side, path) == [ERROR + "Cancelled"]
        with contextlib.suppress(ConnectionError):
            assert await reader.read() == b""
        writer.close()
        with pytest.raises((ConnectionError, FileNotFoundError)):
            await tube.connect()


async def test_contacts_are_told_which_services_are_waited_for(pair: Pair) -> None:
    bob = pair.server.jid("bob")
    alice = pair.alice
    (handle,) = await alice.cm(alice.connection, CONNECTION, "RequestHandles", "uas", 1, [bob])

    async def classes() -> list[dict[str, Any]]:
        found = await alice.cm(
            alice.connection, CAPABILITIES, "GetContactCapabilities", "au", [handle]
        )
        return [fixed for fixed, _ in found[handle]]

    plain = {CHANNEL + ".TargetHandleType": 1}
    stream, bus = ({CHANNEL + ".ChannelType": each, **plain} for each in (STREAM_TUBE, DBUS_TUBE))
    # Any service can be offered, whether somebody waits for it or not.
    assert stream in await classes()
    assert bus in await classes()
    await announce_service(pair.bob, STREAM_TUBE, "rfb", "vnc")
    await announce_service(pair.bob, DBUS_TUBE, "com.example.Game", "game")
    async with asyncio.timeout(PATIENCE):
        while not {STREAM_TUBE + ".Service", DBUS_TUBE + ".ServiceName"} <= set().union(
            *await classes()
        ):
            await asyncio.sleep(0.02)
    assert {**stream, STREAM_TUBE + ".Service": "rfb"} in await classes()
    assert {**bus, DBUS_TUBE + ".ServiceName": "com.example.Game"} in await classes()
    assert {**stream, STREAM_TUBE + ".Service": "x"} not in await classes()


async def test_ensuring_gives_the_tube_that_was_requested_before(pair: Pair) -> None:
    bob = pair.server.jid("bob")
    mine = await request(pair.alice, bob, "rsync")

    async def ensure(name: str, **more: Variant) -> tuple[bool, str]:
        wanted = {
            CHANNEL + ".ChannelType": Variant("s", STREAM_TUBE),
            CHANNEL + ".TargetHandleType": Variant("u", 1),
            CHANNEL + ".TargetID": Variant("s", bob),
            STREAM_TUBE + ".Service": Variant("s", name),
            **more,
        }
        side = pair.alice
        yours, path, _ = await side.cm(side.connection, REQUESTS, "EnsureChannel", "a{sv}", wanted)
        return bool(yours), str(path)

    assert await ensure("rsync") == (False, mine)
    others = [
        await ensure("daap"),
        await ensure("rsync", **{E2E + ".RequireEncrypted": Variant("b", True)}),
    ]
    assert [yours for yours, _ in others] == [True, True]
    for path in (mine, *(path for _, path in others)):
        await pair.alice.cm(path, CHANNEL, "Close")


async def test_a_request_without_a_service_makes_no_sense(pair: Pair) -> None:
    wanted = {
        CHANNEL + ".ChannelType": Variant("s", STREAM_TUBE),
        CHANNEL + ".TargetHandleType": Variant("u", 1),
        CHANNEL + ".TargetID": Variant("s", pair.server.jid("bob")),
    }
    side = pair.alice
    with pytest.raises(DBusFailure) as failure:
        await side.cm(side.connection, REQUESTS, "CreateChannel", "a{sv}", wanted)
    assert failure.value.name == ERROR + "InvalidArgument"


# -- protection -------------------------------------------------------------------------------


async def test_both_sides_say_how_the_tube_is_protected(pair: Pair, tmp_path: Path) -> None:
    async with service(UNIX, tmp_path) as address:
        tube = await opened(pair, address)
        for side, path in ((pair.alice, tube.mine), (pair.bob, tube.theirs)):
            assert await side.get_all(path, SECURABLE) == {"Encrypted": True, "Verified": False}
            assert await side.get(path, E2E, "Protocol") == "xtls"
        await tube.close()


async def test_people_compare_a_string_while_the_tube_runs(pair: Pair, tmp_path: Path) -> None:
    async with service(UNIX, tmp_path) as address:
        tube = await opened(pair, address)
        reader, writer = await tube.connect()
        writer.write(b"before")
        assert await reader.readexactly(6) == b"before"
        hers = await pair.alice.cm(tube.mine, E2E, "Verify")
        await pair.alice.cm(hers, VERIFICATION, "StartSAS")
        his = await pair.bob.cm(tube.theirs, E2E, "Verify")
        await pair.bob.signal(lambda s: (s.path, s.member) == (his, "PeerStarted"))
        await pair.bob.cm(his, VERIFICATION, "StartSAS")
        strings = []
        for side, path in ((pair.alice, hers), (pair.bob, his)):
            found = await side.signal(
                lambda s, p=path: (  # type: ignore[misc]
                    s.path == p
                    and s.member == "PropertiesChanged"
                    and bool(s.body[1].get("ShortAuthenticationString"))
                )
            )
            strings.append(found.body[1]["ShortAuthenticationString"])
        assert strings[0] == strings[1]
        await pair.alice.cm(hers, VERIFICATION, "ConfirmSAS", "b", True)
        await pair.bob.cm(his, VERIFICATION, "ConfirmSAS", "b", True)
        await pair.alice.changed(tube.mine, SECURABLE, "Verified", True)
        await pair.bob.changed(tube.theirs, SECURABLE, "Verified", True)
        assert await talk(reader, writer, b"after") == b"after"
        writer.close()
        await tube.close()


async def test_a_demand_for_verification_lets_nothing_through_before(
    pair: Pair, tmp_path: Path
) -> None:
    async with service(UNIX, tmp_path) as address:
        demand = {E2E + ".RequireVerified": Variant("b", True)}
        mine, theirs = await offer(pair, address, UNIX, demands=demand)
        assert await pair.alice.get(mine, E2E, "RequireVerified") is True
        await accept(pair.bob, theirs, UNIX)
        (question,) = await questions(pair, mine)
        assert not [
            s for s in told(pair.alice, mine, "TubeChannelStateChanged") if s.body == (OPEN,)
        ]
        await pair.alice.cm(question, CHANNEL, "Close")
        await asyncio.gather(closed(pair.alice, mine), closed(pair.bob, theirs))
        assert ".Cert." in error_of(pair.alice, mine)


async def questions(pair: Pair, payload: str) -> list[str]:
    """The questions about a channel of Alice's, once there is one."""

    def found() -> list[str]:
        return [
            path
            for each in pair.alice.signals
            if each.member == "NewChannels"
            for path, properties in each.body[0]
            if properties.get(VERIFICATION + ".PayloadChannel") == payload
        ]

    await pair.alice.signal(lambda _: bool(found()))
    return found()


async def test_a_file_goes_beside_a_tube(pair: Pair, tmp_path: Path) -> None:
    async with service(UNIX, tmp_path) as address:
        tube = await opened(pair, address)
        data = secrets.token_bytes(500_000)
        assert await pair.send(data) == data
        assert await tube.echoed(data) == data
        await tube.close()
