"""The one door to D-Bus: connect, answer calls, emit signals, own names, and see the end.

Only this module imports dbus_fast; the others take what they need of it from here. Calls are
answered by ``objects.Objects``, not by dbus_fast's own service classes: those do not tell a method
who called, announce every property of a new object to the whole bus before the reply that made it
is out, and hold the event loop for as long as calls keep coming.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import traceback
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, Final, Protocol, cast

from dbus_fast import Message, MessageFlag, MessageType, NameFlag, RequestNameReply, Variant
from dbus_fast.aio import MessageBus
from dbus_fast.annotations import (
    DBusBool,
    DBusBytes,
    DBusDict,
    DBusDouble,
    DBusInt16,
    DBusInt64,
    DBusObjectPath,
    DBusSignature,
    DBusStr,
    DBusUInt16,
    DBusUInt32,
    DBusUInt64,
    DBusUnixFd,
    DBusVariant,
)
from dbus_fast.constants import BusType
from dbus_fast.errors import DBusFastError
from dbus_fast.signature import get_signature_tree
from dbus_fast.unpack import unpack_variants as plain

from telepathy_e2e.bus import caller
from telepathy_e2e.bus.caller import Call
from telepathy_e2e.errors import E2EError, RemoteError, TelepathyError
from telepathy_e2e.tasks import TaskOwner

__all__ = [
    "DBUS",
    "Bus",
    "BusGone",
    "DBusBool",
    "DBusBytes",
    "DBusDict",
    "DBusDouble",
    "DBusFailure",
    "DBusInt16",
    "DBusInt64",
    "DBusObjectPath",
    "DBusSignature",
    "DBusStr",
    "DBusUInt16",
    "DBusUInt32",
    "DBusUInt64",
    "DBusUnixFd",
    "DBusVariant",
    "Result",
    "Variant",
    "complete_types",
    "plain",
]

log = logging.getLogger(__name__)

DBUS: Final = "org.freedesktop.DBus"
FAILED: Final = DBUS + ".Error.Failed"

# Seconds for which calls are answered before everything else in the event loop has its turn:
# a client that sends thousands at once must not stop a transfer (the limit for all is 20 ms).
SLICE: Final = 0.005

# Entries of a dictionary that are marshalled at a time: about three milliseconds for all that there
# is to know of as many contacts.
PIECE: Final = 200

# Seconds until a program that we call has answered; dbus-daemon starts it within 25 as well.
CALL_TIMEOUT: Final = 25.0

# A method's result: the signature and the body of the reply.
Result = tuple[str, list[Any]]

# Takes a signal: the unique name of who sent it, its name, its arguments without variants.
Heard = Callable[[str, str, list[Any]], None]


class BusGone(E2EError):
    """The bus cannot be reached, or is not there any more."""


class DBusFailure(E2EError):
    """One of D-Bus's own errors answers a call, e.g. an unknown method.

    Args:
        name: the last part of the error's name.
    """

    def __init__(self, name: str, text: str) -> None:
        super().__init__(text)
        self.dbus_name = f"{DBUS}.Error.{name}"


class Answerer(Protocol):
    """Who answers method calls."""

    def call(self, call: Call) -> Result | Awaitable[Result]:
        """The result of a call, at once or later.

        Raises:
            TelepathyError, DBusFailure: answers the call with that error.
        """


class Bus:
    """A connection to a message bus; ``await Bus.connect()``, and ``await close()`` at the end."""

    def __init__(self, bus: MessageBus) -> None:
        self._bus = bus
        self._answerer: Answerer | None = None
        self._calls: deque[Message] = deque()
        self._heard: list[tuple[str | None, Heard]] = []
        self._draining = False
        self._tasks = TaskOwner("bus")
        self._last: asyncio.Future[Any] | None = None
        self._loop = asyncio.get_running_loop()

    @classmethod
    async def connect(cls, address: str | None = None, *, descriptors: bool = False) -> Bus:
        """Connect.

        Args:
            address: of the bus; None for the session bus.
            descriptors: take those that are arguments (type ``h``) of calls: a method gets the
                descriptor's number, which is good until it has answered. All others that come are
                closed at once.
        Raises:
            BusGone: it cannot be reached; says why.
        """
        try:
            # dbus_fast leaves those open that nobody took, so who takes none asks for none.
            connection = MessageBus(address, BusType.SESSION, negotiate_unix_fd=descriptors)
            await connection.connect()
        except (OSError, EOFError, DBusFastError, KeyError, ValueError) as error:
            raise BusGone(f"The session bus cannot be reached: {error}") from error
        _be_patient(connection)
        bus = cls(connection)
        connection.add_message_handler(bus._received)
        return bus

    @property
    def unique_name(self) -> str:
        return self._bus.unique_name or ""

    @property
    def connected(self) -> bool:
        return self._bus.connected

    def serve(self, answerer: Answerer) -> None:
        """Have method calls answered from now on."""
        self._answerer = answerer

    # -- out --------------------------------------------------------------------------------

    def emit(self, path: str, interface: str, member: str, signature: str, body: list[Any]) -> None:
        """Send a signal to whoever listens; nothing happens on a bus that is gone."""
        self._send(Message.new_signal(path, interface, member, signature, body))

    async def request_name(self, name: str) -> bool:
        """Own a name; False if somebody else does.

        Raises:
            BusGone: no bus, no name.
        """
        reply = await self._asked(lambda: self._bus.request_name(name, NameFlag.DO_NOT_QUEUE))
        return reply in (RequestNameReply.PRIMARY_OWNER, RequestNameReply.ALREADY_OWNER)

    async def has_owner(self, name: str) -> bool:
        """Whether somebody owns a name; nobody does on a bus that is gone."""
        question = Message(
            destination=DBUS,
            path="/org/freedesktop/DBus",
            interface=DBUS,
            member="NameHasOwner",
            signature="s",
            body=[name],
        )
        try:
            reply = await self._asked(lambda: self._bus.call(question))
        except BusGone:
            return False
        return reply is not None and reply.body == [True]

    async def call(
        self,
        destination: str,
        path: str,
        interface: str,
        member: str,
        signature: str = "",
        body: Sequence[object] = (),
        *,
        expected: str | None = None,
    ) -> list[Any]:
        """Call a method of another program, which is started if it can be; the reply's body.

        Args:
            expected: the reply's signature; None: any.
        Raises:
            RemoteError: it answered with an error, or what was not expected, went away, or did not
                answer in time.
        """
        message = Message(
            destination=destination,
            path=path,
            interface=interface,
            member=member,
            signature=signature,
            body=list(body),
        )
        try:
            async with asyncio.timeout(CALL_TIMEOUT):
                reply = await self._asked(lambda: self._bus.call(message))
        except TimeoutError:
            raise RemoteError(f"{DBUS}.Error.NoReply", f"{member}: no answer") from None
        except BusGone as error:
            raise RemoteError(f"{DBUS}.Error.Disconnected", str(error)) from error
        if reply.message_type is MessageType.ERROR:
            text = reply.body[0] if reply.body and isinstance(reply.body[0], str) else ""
            raise RemoteError(reply.error_name or FAILED, text)
        if expected is not None and reply.signature != expected:
            raise RemoteError(f"{DBUS}.Error.InvalidSignature", f"{member}: not what was expected")
        return list(reply.body)

    async def owner(self, name: str) -> str:
        """The unique name of who owns a name.

        Raises:
            RemoteError: nobody does.
        """
        path = "/org/freedesktop/DBus"
        return str((await self.call(DBUS, path, DBUS, "GetNameOwner", "s", [name]))[0])

    @asynccontextmanager
    async def listening(
        self, rule: str, heard: Heard, *, path: str | None = None
    ) -> AsyncIterator[None]:
        """Be told all signals that come while the block runs, those that match ``rule`` at least.

        Anybody can send a signal: ``heard`` has to look at who did.

        Args:
            path: of this object alone; None: of any.
        Raises:
            RemoteError: the bus does not take the rule, or is gone.
        """
        bus = "/org/freedesktop/DBus"
        entry = (path, heard)
        self._heard.append(entry)
        try:
            await self.call(DBUS, bus, DBUS, "AddMatch", "s", [rule])
            try:
                yield
            finally:
                with suppress(RemoteError):
                    await self.call(DBUS, bus, DBUS, "RemoveMatch", "s", [rule])
        finally:
            self._heard.remove(entry)

    def release_name(self, name: str) -> None:
        """Give a name back, after everything that was sent before."""
        self._send(
            Message(
                destination=DBUS,
                path="/org/freedesktop/DBus",
                interface=DBUS,
                member="ReleaseName",
                signature="s",
                body=[name],
                flags=MessageFlag.NO_REPLY_EXPECTED,
            )
        )

    async def give_up_name(self, name: str) -> None:
        """Give a name back, and answer all that was sent to its owner until then.

        Raises:
            BusGone: no bus, no name.
        """
        await self._asked(lambda: self._bus.release_name(name))
        while self._calls:
            self._answer(self._calls.popleft())
        await asyncio.sleep(0)  # methods that are tasks have begun after this

    async def flush(self) -> None:
        """Wait until what was sent is with the bus, or the bus is gone."""
        if self._last is not None and not self._last.done():
            await asyncio.wait([self._last])

    async def wait_gone(self) -> None:
        """Wait until there is no bus any more, for whatever reason."""
        try:
            await self._bus.wait_for_disconnect()  # type: ignore[no-untyped-call]
        except (OSError, EOFError, DBusFastError) as error:
            log.debug("the bus went away: %s", type(error).__name__)

    async def close(self) -> None:
        """Leave the bus; what was sent before still gets there."""
        await self.flush()
        for message in self._calls:
            _close_descriptors(message)
        self._calls.clear()
        await self._tasks.close()
        if self._bus.connected:
            self._bus.disconnect()
        await self.wait_gone()

    async def _asked(self, question: Callable[[], Awaitable[Any]]) -> Any:
        """The bus's own answer to a question; a bus that is gone would never give one."""
        if not self._bus.connected:
            raise BusGone("The session bus went away")
        try:
            return await question()
        except (OSError, EOFError, DBusFastError) as error:
            raise BusGone("The session bus went away") from error

    def _send(self, message: Message) -> None:
        if not self._bus.connected:
            return
        self._last = sent = self._bus.send(message)
        if sent.done():
            _retrieve(sent)
        else:
            sent.add_done_callback(_retrieve)

    # -- in ---------------------------------------------------------------------------------

    def _received(self, message: Message) -> bool:
        # dbus_fast gives one list to all messages until some of them has descriptors, and then adds
        # to it: a call that came before would take them for its own, and close them.
        message.unix_fds = list(message.unix_fds)
        if message.message_type is not MessageType.METHOD_CALL:
            _close_descriptors(message)
            if message.message_type is MessageType.SIGNAL and self._heard:
                body = [plain(value) for value in message.body]
                for path, heard in list(self._heard):
                    if path in (None, message.path):
                        heard(message.sender or "", message.member or "", body)
            return False
        self._calls.append(message)
        if not self._draining:
            self._draining = True
            self._loop.call_soon(self._drain)
        return True

    def _drain(self) -> None:
        end = self._loop.time() + SLICE
        while self._calls:
            self._answer(self._calls.popleft())
            if self._calls and self._loop.time() >= end:
                self._loop.call_soon(self._drain)
                return
        self._draining = False

    def _answer(self, message: Message) -> None:
        call = Call(
            sender=message.sender or "",
            path=message.path or "",
            interface=message.interface or "",
            member=message.member or "",
            signature=message.signature,
            body=message.body,
        )
        later = False
        with caller.calling(call):
            try:
                _put_descriptors(message, call)
                if self._answerer is None:
                    raise DBusFailure("UnknownObject", "There is nothing here yet")
                caller.check(call)
                result = self._answerer.call(call)
                if not isinstance(result, tuple):
                    self._tasks.start(call.member, self._answer_later(message, call, result))
                    later = True
                    return
                self._reply(message, result)
            except Exception as error:  # the door: nothing of ours may go on from here
                self._fail(message, call, error)
            finally:
                if not later:
                    _close_descriptors(message)
            self._finish(call)

    async def _answer_later(self, message: Message, call: Call, result: Awaitable[Result]) -> None:
        try:
            signature, body = await result
            if _is_large(signature, body) and _wants_reply(message):
                self._send(await _in_pieces(message, signature, body[0]))
            else:
                self._reply(message, (signature, body))
        except asyncio.CancelledError:
            self._send_error(message, TelepathyError.dbus_name, "This program is going away")
            raise
        except Exception as error:  # as above
            self._fail(message, call, error)
        finally:
            _close_descriptors(message)
        self._finish(call)

    def _reply(self, message: Message, result: Result) -> None:
        if _wants_reply(message):
            self._send(Message.new_method_return(message, *result))

    def _finish(self, call: Call) -> None:
        try:
            call.finish()
        except Exception as error:  # as above
            _log_mistake(call, error)

    def _fail(self, message: Message, call: Call, error: Exception) -> None:
        if isinstance(error, TelepathyError | DBusFailure):
            self._send_error(message, error.dbus_name, str(error))
            return
        _log_mistake(call, error)
        self._send_error(message, FAILED, "This program made a mistake; its log says where")

    def _send_error(self, message: Message, name: str, text: str) -> None:
        if _wants_reply(message):
            self._send(Message.new_error(message, name, text))


def complete_types(signature: str) -> list[str]:
    """The single complete types that a signature consists of."""
    return [each.signature for each in get_signature_tree(signature).types]


def _put_descriptors(message: Message, call: Call) -> None:
    """In the place of the indices that stand for them among the arguments.

    Raises:
        DBusFailure: an index without a descriptor, as from a caller that cannot pass any.
    """
    if "h" not in call.signature:
        return
    call.body = list(call.body)
    for i, each in enumerate(complete_types(call.signature)):
        if each == "h":
            if not 0 <= call.body[i] < len(message.unix_fds):
                raise DBusFailure("InvalidArgs", f"{call.member} came without its descriptors")
            call.body[i] = message.unix_fds[call.body[i]]


def _close_descriptors(message: Message) -> None:
    """Those that came with a message, once."""
    found, message.unix_fds = message.unix_fds, []
    for each in found:
        os.close(each)


def _log_mistake(call: Call, error: Exception) -> None:
    """Without the exception's own text: it may quote what somebody sent, a password say."""
    log.error(
        "%s failed with %s:\n%s",
        call.member,
        type(error).__name__,
        "".join(traceback.format_tb(error.__traceback__)),
    )


def _wants_reply(message: Message) -> bool:
    return not message.flags & MessageFlag.NO_REPLY_EXPECTED


def _retrieve(future: asyncio.Future[Any]) -> None:
    """Nobody waits for a single message; that the bus is gone is told by ``wait_gone``."""
    if not future.cancelled():
        future.exception()


class _PatientSocket:
    """A socket that is full, or broken, is no reason to raise for somebody who sends.

    dbus_fast 5.2 takes ``BlockingIOError`` for the end of the bus: some hundred kilobytes of
    replies to a client in a hurry, and the daemon would leave. And where the bus is gone it raises
    in the midst of whatever made us emit a signal. That end is seen by reading, always.
    """

    def __init__(self, sock: socket.socket) -> None:
        self.sendmsg: Callable[..., int] = sock.sendmsg
        self._send = sock.send

    def send(self, data: memoryview) -> int:
        try:
            return self._send(data)
        except BlockingIOError:
            return 0
        except OSError:
            return len(data)


def _be_patient(bus: MessageBus) -> None:
    writer = bus._writer
    if writer is not None and writer.sock is not None:
        writer.sock = cast(socket.socket, _PatientSocket(writer.sock))


class _LargeReply(Message):
    """A reply whose only value is a dictionary that is marshalled already.

    Args:
        entries: its entries, each aligned to 8 bytes.
    """

    def __init__(self, call: Message, signature: str, entries: bytes) -> None:
        super().__init__(
            message_type=MessageType.METHOD_RETURN,
            reply_serial=call.serial,
            destination=call.sender,
            signature=signature,
            body=[{}],
        )
        self._entries = entries

    def _marshall(self, negotiate_unix_fd: bool) -> bytearray:
        # The body of an empty dictionary is its length and the padding before its first entry
        # (D-Bus specification, "Marshaling"); the header has the length of the body.
        data = bytearray(super()._marshall(negotiate_unix_fd))
        size = len(self._entries)
        data[4:8] = (size + 8).to_bytes(4, "little")
        data[-8:-4] = size.to_bytes(4, "little")
        data += self._entries
        return data


def _is_large(signature: str, body: list[Any]) -> bool:
    return (
        signature.startswith("a{")
        and len(body) == 1
        and isinstance(body[0], dict)
        and len(body[0]) > PIECE
    )


async def _in_pieces(call: Message, signature: str, value: dict[Any, Any]) -> Message:
    """A large dictionary as a reply; the event loop has its turn between the pieces."""
    entries = bytearray()
    keys = list(value)
    for start in range(0, len(keys), PIECE):
        entries += b"\0" * (-len(entries) % 8)
        piece = {key: value[key] for key in keys[start : start + PIECE]}
        message = Message(
            message_type=MessageType.METHOD_RETURN,
            reply_serial=1,
            serial=1,
            signature=signature,
            body=[piece],
        )
        data = message._marshall(False)
        size = int.from_bytes(data[4:8], "little")
        entries += data[len(data) - size + 8 :]
        await asyncio.sleep(0)
    return _LargeReply(call, signature, bytes(entries))
