"""The door to D-Bus: order, errors, who calls, and what happens when the bus goes."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from pathlib import Path

import pytest
import pytest_asyncio
from dbus_fast import Message, MessageFlag, MessageType, Variant
from dbus_fast.aio import MessageBus

from telepathy_e2e.bus import caller, wire
from telepathy_e2e.bus.members import Interface, Property, Signal, method
from telepathy_e2e.bus.objects import Objects
from telepathy_e2e.bus.wire import (
    PIECE,
    Bus,
    BusGone,
    DBusStr,
    DBusUInt32,
    DBusUnixFd,
    Result,
    _in_pieces,
)
from telepathy_e2e.errors import InvalidArgument, RemoteError
from tests.support.agent import pipe
from tests.support.bus import PROPERTIES, PrivateBus, RawClient, available, client_of
from tests.support.waiting import PATIENCE

pytestmark = pytest.mark.skipif(not available(), reason="dbus-daemon is not installed")

SECRET = "open sesame"


class Sample(Interface):
    name = "org.example.Sample"

    Number = Property(DBusUInt32)
    Text = Property(DBusStr, setter="set_text")
    Happened = Signal(What=DBusStr)

    def __init__(self) -> None:
        super().__init__()
        self.number = 7
        self.text = "old"
        self.wait, self.waited_for = asyncio.Event(), asyncio.Event()

    def set_text(self, value: str) -> None:
        if not value:
            raise InvalidArgument("not empty")
        self.text = value

    @method("Echo")
    def echo(self, Number: DBusUInt32) -> DBusUInt32:
        return Number

    @method("WhoAmI")
    def who_am_i(self) -> DBusStr:
        call = caller.current()
        return call.sender if call else ""

    @method("WhoAmILater")
    async def who_am_i_later(self) -> DBusStr:
        await asyncio.sleep(0)
        return self.who_am_i()

    @method("Follow")
    def follow(self) -> DBusStr:
        caller.after_reply(lambda: self.Happened("after"))
        return "reply"

    @method("FollowLater")
    async def follow_later(self) -> DBusStr:
        await asyncio.sleep(0)
        return self.follow()

    @method("Wait")
    async def wait_long(self) -> DBusStr:
        self.waited_for.set()
        await self.wait.wait()
        return "done"

    @method("Refuse")
    def refuse(self) -> None:
        raise InvalidArgument("Say something else")

    @method("Break")
    def break_down(self) -> None:
        raise ValueError(SECRET)

    @method("BreakLater")
    async def break_down_later(self) -> None:
        raise ValueError(SECRET)

    @method("Lie")
    def lie(self) -> DBusUInt32:
        return -1


@pytest.fixture
def private_bus() -> Iterator[PrivateBus]:
    bus = PrivateBus.start()
    yield bus
    bus.stop()


class Served:
    def __init__(self, bus: Bus, objects: Objects, client: RawClient) -> None:
        self.bus = bus
        self.objects = objects
        self.client = client
        self.sample = Sample()
        objects.export("/org/example/Object", self.sample)

    async def value(self, member: str, signature: str = "", *body: object) -> object:
        return await self.client.value(*self.target, "org.example.Sample", member, signature, *body)

    async def error(self, member: str, signature: str = "", *body: object) -> str:
        return await self.client.error(*self.target, "org.example.Sample", member, signature, *body)

    @property
    def target(self) -> tuple[str, str]:
        return self.bus.unique_name, "/org/example/Object"


@pytest_asyncio.fixture
async def served(private_bus: PrivateBus) -> AsyncIterator[Served]:
    bus = await Bus.connect(private_bus.address)
    objects = Objects(bus)
    bus.serve(objects)
    async with client_of(private_bus) as client:
        yield Served(bus, objects, client)
    await bus.close()


async def test_thousands_of_calls_sent_at_once_are_all_answered_in_order(served: Served) -> None:
    serials = []
    for number in range(5000):
        message = Message(
            destination=served.bus.unique_name,
            path="/org/example/Object",
            interface="org.example.Sample",
            member="Echo",
            signature="u",
            body=[number],
            serial=served.client.bus.next_serial(),
        )
        serials.append(message.serial)
        served.client.bus.send(message)
    await served.client.until(lambda m: m.reply_serial == serials[-1])
    replies = [m for m in served.client.log if m.reply_serial in set(serials)]
    assert [m.reply_serial for m in replies] == serials
    assert [m.body for m in replies] == [[number] for number in range(5000)]


class Slow:
    """Takes a millisecond for each call."""

    def __init__(self) -> None:
        self.answered: list[int] = []

    def call(self, call: caller.Call) -> Result:
        self.answered.append(call.body[0])
        end = time.perf_counter() + 0.001
        while time.perf_counter() < end:
            pass
        return "", []


async def test_other_work_has_its_turn_while_calls_keep_coming(served: Served) -> None:
    slow = Slow()
    served.bus.serve(slow)
    for number in range(100):
        served.bus._received(
            Message(
                path="/org/example/Object",
                interface="org.example.Sample",
                member="Echo",
                signature="u",
                body=[number],
                serial=number + 1,
                sender=":1.99",
                flags=MessageFlag.NO_REPLY_EXPECTED,
            )
        )
    turns = 0
    while len(slow.answered) < 100:
        await asyncio.sleep(0)
        turns += 1
    assert slow.answered == list(range(100))
    assert turns >= 10


async def test_a_method_knows_its_caller(served: Served) -> None:
    name = served.client.bus.unique_name
    assert await served.value("WhoAmI") == name
    assert await served.value("WhoAmILater") == name
    assert caller.current() is None


@pytest.mark.parametrize("member", ["Follow", "FollowLater"])
async def test_what_follows_from_a_call_comes_after_its_reply(served: Served, member: str) -> None:
    assert await served.value(member) == "reply"
    await served.client.signal("Happened")
    kinds = [m.message_type for m in served.client.log if m.sender == served.bus.unique_name]
    assert kinds[-2:] == [MessageType.METHOD_RETURN, MessageType.SIGNAL]


async def test_a_call_that_wants_no_reply_gets_none_and_has_its_effect(served: Served) -> None:
    served.client.bus.send(
        Message(
            destination=served.bus.unique_name,
            path="/org/example/Object",
            interface="org.example.Sample",
            member="Follow",
            flags=MessageFlag.NO_REPLY_EXPECTED,
        )
    )
    await served.client.signal("Happened")
    assert await served.value("Echo", "u", 1) == 1
    replies = [m for m in served.client.log if m.sender == served.bus.unique_name]
    assert [m.message_type for m in replies] == [MessageType.SIGNAL, MessageType.METHOD_RETURN]


async def test_our_errors_have_their_names_and_sentences(served: Served) -> None:
    reply = await served.client.call(*served.target, "org.example.Sample", "Refuse")
    assert reply.error_name == "org.freedesktop.Telepathy.Error.InvalidArgument"
    assert reply.body == ["Say something else"]


@pytest.mark.parametrize("member", ["Break", "BreakLater"])
async def test_mistakes_are_answered_and_logged_without_their_text(
    served: Served, member: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        reply = await served.client.call(*served.target, "org.example.Sample", member)
    assert reply.error_name == "org.freedesktop.DBus.Error.Failed"
    assert "ValueError" in caplog.text
    assert "test_bus_wire" in caplog.text
    assert SECRET not in caplog.text + str(reply.body)


async def test_a_result_of_the_wrong_type_is_a_mistake_too(served: Served) -> None:
    assert await served.error("Lie") == "org.freedesktop.DBus.Error.Failed"
    assert await served.value("Echo", "u", 1) == 1


async def test_calls_without_a_sender_are_refused(served: Served) -> None:
    call = caller.Call("", "/", "org.example.Sample", "Echo", "u", [1])
    with pytest.raises(Exception, match="message bus"):
        caller.check(call)


async def test_the_log_names_who_answered_a_question(caplog: pytest.LogCaptureFixture) -> None:
    call = caller.Call(
        ":1.5",
        "/question",
        "org.freedesktop.Telepathy.Channel.Type.PeerVerification1",
        "StartPassword",
        "s",
        [SECRET],
    )
    with caplog.at_level(logging.INFO):
        caller.check(call)
    assert ":1.5" in caplog.text
    assert SECRET not in caplog.text + repr(call)


async def test_a_name_can_be_owned_by_one_only(private_bus: PrivateBus, served: Served) -> None:
    other = await Bus.connect(private_bus.address)
    assert await served.bus.request_name("org.example.Name")
    assert not await other.request_name("org.example.Name")
    served.bus.release_name("org.example.Name")
    await served.bus.flush()
    await served.client.until(
        lambda m: m.member == "NameOwnerChanged" and m.body[0] == "org.example.Name" and m.body[1]
    )
    assert await other.request_name("org.example.Name")
    await other.close()


async def test_a_bus_that_dies_is_told_and_later_sends_do_nothing(
    private_bus: PrivateBus, served: Served
) -> None:
    waiting = asyncio.create_task(served.bus.wait_gone())
    await asyncio.sleep(0)
    assert not waiting.done()
    pending = asyncio.create_task(served.bus.request_name("org.example.Late"))
    await asyncio.sleep(0)
    private_bus.process.kill()
    private_bus.process.wait()
    # Broken, and not noticed yet.
    assert served.bus.connected
    for _ in range(3):
        served.sample.Happened("nobody hears it")
    await asyncio.wait_for(waiting, PATIENCE)
    served.sample.Happened("nobody hears it")
    served.bus.release_name("org.example.Name")
    await served.bus.flush()
    try:
        await pending
    except BusGone:
        pass
    with pytest.raises(BusGone):
        await served.bus.request_name("org.example.Name")
    assert not served.bus.connected


async def test_a_method_that_still_runs_at_the_end_is_cancelled_and_answered(
    served: Served,
) -> None:
    pending = asyncio.create_task(served.client.call(*served.target, "org.example.Sample", "Wait"))
    await asyncio.wait_for(served.sample.waited_for.wait(), PATIENCE)
    await served.bus.close()
    reply = await pending
    assert reply.error_name == "org.freedesktop.Telepathy.Error.NotAvailable"


async def test_a_bus_that_is_not_there_is_an_error_that_says_so(tmp_path: Path) -> None:
    with pytest.raises(BusGone, match="cannot be reached"):
        await Bus.connect(f"unix:path={tmp_path}/nothing")
    with pytest.raises(BusGone, match="cannot be reached"):
        await Bus.connect("nonsense")


async def test_a_bus_that_does_not_read_for_a_while_is_waited_for(tmp_path: Path) -> None:
    """dbus_fast takes a full socket for the end of the bus."""
    path = tmp_path / "bus"
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(path))
    listening.listen(1)
    go = threading.Event()
    got = bytearray()

    def serve() -> None:
        connection, _ = listening.accept()
        with connection:
            said = b""
            # Until the Hello, which may come in one piece with the BEGIN.
            while not said.partition(b"BEGIN\r\n")[2]:
                piece = connection.recv(4096)
                said += piece
                if b"AUTH" in piece:
                    connection.sendall(b"OK 0123\r\n")
            hello = Message(
                message_type=MessageType.METHOD_RETURN,
                reply_serial=1,
                signature="s",
                body=[":1.1"],
                sender="org.freedesktop.DBus",
                serial=1,
            )
            connection.sendall(bytes(hello._marshall(False)))
            go.wait(PATIENCE)
            while data := connection.recv(1 << 20):
                got.extend(data)

    thread = threading.Thread(target=serve)
    thread.start()
    bus = await Bus.connect(f"unix:path={path}")
    for _ in range(3000):
        bus.emit("/a", "org.example.Sample", "Happened", "s", ["x" * 1000])
    assert bus.connected
    go.set()
    await asyncio.wait_for(bus.flush(), PATIENCE)
    assert bus.connected
    await bus.close()
    await asyncio.to_thread(thread.join)
    listening.close()
    assert got.count(b"x" * 1000) == 3000


async def test_properties_are_read_and_written_through_the_standard_interface(
    served: Served,
) -> None:
    target, sample = (*served.target, PROPERTIES), "org.example.Sample"
    client = served.client
    assert (await client.value(*target, "Get", "ss", sample, "Number")).value == 7
    everything = await client.value(*target, "GetAll", "s", sample)
    assert everything == {"Number": Variant("u", 7), "Text": Variant("s", "old")}
    await client.value(*target, "Set", "ssv", sample, "Text", Variant("s", "new"))
    assert (await client.value(*target, "Get", "ss", sample, "Text")).value == "new"


@pytest.mark.parametrize(
    ("member", "arguments", "error"),
    [
        ("Get", ("org.example.Other", "Number"), "UnknownInterface"),
        ("Get", ("org.example.Sample", "Other"), "UnknownProperty"),
        ("GetAll", ("org.example.Other",), "UnknownInterface"),
        ("Set", ("org.example.Sample", "Number", Variant("u", 1)), "PropertyReadOnly"),
        ("Set", ("org.example.Sample", "Other", Variant("u", 1)), "UnknownProperty"),
        ("Set", ("org.example.Sample", "Text", Variant("u", 1)), "InvalidArgs"),
        ("Other", (), "UnknownMethod"),
    ],
)
async def test_wrong_uses_of_properties_have_the_right_errors(
    served: Served, member: str, arguments: tuple[object, ...], error: str
) -> None:
    signature = {0: "", 1: "s", 2: "ss", 3: "ssv"}[len(arguments)]
    name = await served.client.error(*served.target, PROPERTIES, member, signature, *arguments)
    assert name == "org.freedesktop.DBus.Error." + error
    assert (served.sample.text, served.sample.number) == ("old", 7)


async def test_a_setter_can_refuse(served: Served) -> None:
    name = await served.client.error(
        *served.target, PROPERTIES, "Set", "ssv", "org.example.Sample", "Text", Variant("s", "")
    )
    assert name == "org.freedesktop.Telepathy.Error.InvalidArgument"


async def test_calls_to_nothing_have_the_right_errors(served: Served) -> None:
    prefix = "org.freedesktop.DBus.Error."
    name, path = served.target
    error = served.client.error
    assert await served.error("Other") == prefix + "UnknownMethod"
    assert await served.error("Echo", "s", "1") == prefix + "InvalidArgs"
    assert await error(name, path, "org.example.Other", "Echo") == prefix + "UnknownInterface"
    assert await error(name, "/org/nothing", "org.example.Sample", "Echo") == (
        prefix + "UnknownObject"
    )
    introspect = ("org.freedesktop.DBus.Introspectable", "Introspect")
    assert await error(name, "/org/nothing", *introspect) == prefix + "UnknownObject"
    assert await error(name, path, introspect[0], "Other") == prefix + "UnknownMethod"
    assert await error(name, path, *introspect, "s", "x") == prefix + "InvalidArgs"


async def test_peers_are_answered_anywhere(served: Served) -> None:
    peer = "org.freedesktop.DBus.Peer"
    await served.client.value(served.bus.unique_name, "/any", peer, "Ping")
    machine = await served.client.call(served.bus.unique_name, "/any", peer, "GetMachineId")
    if machine.message_type is MessageType.METHOD_RETURN:
        assert len(machine.body[0]) == 32


async def test_an_object_that_was_withdrawn_is_gone_and_silent(served: Served) -> None:
    served.objects.withdraw("/org/example/Object")
    served.objects.withdraw("/org/example/Object")
    served.sample.Happened("too late")
    assert await served.error("Echo", "u", 1) == "org.freedesktop.DBus.Error.UnknownObject"
    assert not served.client.signals("Happened")


async def test_new_objects_are_not_told_to_the_whole_bus(served: Served) -> None:
    """dbus_fast's own services send every property of every object to everybody."""
    served.objects.export("/org/example/Another", Sample())
    served.sample.Happened("now")
    await served.client.signal("Happened")
    assert [m.member for m in served.client.log if m.sender == served.bus.unique_name] == [
        "Happened"
    ]


@pytest.mark.parametrize("count", [1, PIECE, PIECE + 1, 3 * PIECE + 7])
@pytest.mark.parametrize(
    ("signature", "entry"),
    [
        ("a{us}", lambda n: "x" * (n % 13)),
        ("a{u(uus)}", lambda n: (n, 1, "x" * (n % 5))),
        ("a{ua{sv}}", lambda n: {"k" * (n % 9): Variant("as", ["y"] * (n % 3))}),
    ],
)
async def test_a_reply_in_pieces_is_the_same_reply(
    signature: str, entry: Callable[[int], object], count: int
) -> None:
    value = {n: entry(n) for n in range(count)}
    call = Message(path="/", interface="a.b", member="C", serial=7, sender=":1.2")
    pieces = await _in_pieces(call, signature, value)
    pieces.serial = 9
    whole = Message(
        message_type=MessageType.METHOD_RETURN,
        reply_serial=7,
        destination=":1.2",
        signature=signature,
        body=[value],
        serial=9,
    )
    assert bytes(pieces._marshall(False)) == bytes(whole._marshall(False))


# -- calls of ours ------------------------------------------------------------------------------


async def test_another_program_is_called(served: Served, private_bus: PrivateBus) -> None:
    caller_of_it = await Bus.connect(private_bus.address)
    name, path = served.target
    assert await caller_of_it.call(name, path, "org.example.Sample", "Echo", "u", [5]) == [5]
    await caller_of_it.close()


async def test_its_errors_have_their_names(served: Served, private_bus: PrivateBus) -> None:
    caller_of_it = await Bus.connect(private_bus.address)
    with pytest.raises(RemoteError, match="something else") as refused:
        await caller_of_it.call(*served.target, "org.example.Sample", "Refuse")
    assert refused.value.name == InvalidArgument.dbus_name
    with pytest.raises(RemoteError) as absent:
        await caller_of_it.call("org.example.Nobody", "/", "org.example.Sample", "Echo")
    assert absent.value.name == "org.freedesktop.DBus.Error.ServiceUnknown"
    await caller_of_it.close()


async def test_one_that_goes_away_or_never_answers_is_not_waited_for(
    served: Served, private_bus: PrivateBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    caller_of_it = await Bus.connect(private_bus.address)
    waiting = (*served.target, "org.example.Sample", "Wait")
    monkeypatch.setattr(wire, "CALL_TIMEOUT", 0.05)
    with pytest.raises(RemoteError) as late:
        await caller_of_it.call(*waiting)
    assert late.value.name == "org.freedesktop.DBus.Error.NoReply"
    monkeypatch.setattr(wire, "CALL_TIMEOUT", PATIENCE)
    asking = asyncio.ensure_future(caller_of_it.call(*waiting))
    private_bus.process.kill()
    with pytest.raises(RemoteError) as gone:
        await asking
    assert gone.value.name == "org.freedesktop.DBus.Error.Disconnected"
    with pytest.raises(RemoteError):
        await caller_of_it.call(*waiting)
    await caller_of_it.close()


# -- descriptors --------------------------------------------------------------------------------


class Reader(Interface):
    """Takes a descriptor, and says what is in it."""

    name = "org.example.Reader"

    def __init__(self) -> None:
        super().__init__()
        self.go_on = asyncio.Event()

    @method("Read")
    def read(self, File: DBusUnixFd) -> DBusStr:
        return os.read(File, 100).decode()

    @method("ReadLater")
    async def read_later(self, File: DBusUnixFd) -> DBusStr:
        await self.go_on.wait()
        return self.read(File)

    @method("Nothing")
    async def nothing(self) -> None:
        await self.go_on.wait()


@pytest_asyncio.fixture
async def reader(
    private_bus: PrivateBus,
) -> AsyncIterator[tuple[Reader, Callable[..., Coroutine[object, object, object]]]]:
    bus = await Bus.connect(private_bus.address, descriptors=True)
    objects = Objects(bus)
    found = Reader()
    objects.export("/reader", found)
    bus.serve(objects)
    client = await MessageBus(private_bus.address, negotiate_unix_fd=True).connect()

    async def call(member: str, *texts: bytes) -> object:
        passed = [pipe(each) for each in texts]
        message = Message(
            destination=bus.unique_name,
            path="/reader",
            interface="org.example.Reader",
            member=member,
            signature="h" * len(passed),
            body=list(range(len(passed))),
            unix_fds=passed,
        )
        reply = await client.call(message)
        for each in passed:
            os.close(each)
        assert reply is not None
        return reply.body[0] if reply.body else None

    yield found, call
    client.disconnect()
    await client.wait_for_disconnect()  # type: ignore[no-untyped-call]
    await bus.close()


async def test_a_descriptor_is_good_until_the_answer_and_closed_then(
    reader: tuple[Reader, Callable[..., Coroutine[object, object, object]]],
) -> None:
    found, call = reader
    before = os.listdir("/proc/self/fd")
    assert await call("Read", b"one") == "one"
    later = asyncio.ensure_future(call("ReadLater", b"two"))
    assert await call("Read", b"three") == "three"
    found.go_on.set()
    assert await later == "two"
    assert os.listdir("/proc/self/fd") == before


async def test_a_call_does_not_take_the_descriptors_of_the_one_behind_it(
    reader: tuple[Reader, Callable[..., Coroutine[object, object, object]]],
) -> None:
    found, call = reader
    before = os.listdir("/proc/self/fd")
    without = asyncio.ensure_future(call("Nothing"))
    await asyncio.sleep(0)
    behind = asyncio.ensure_future(call("ReadLater", b"two"))
    await asyncio.sleep(0)
    assert await call("Read", b"one") == "one"  # all three have begun
    found.go_on.set()
    assert await without is None
    assert await behind == "two"
    assert os.listdir("/proc/self/fd") == before
