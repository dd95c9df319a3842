"""The client's door to D-Bus: the only module of tpe2e that imports dbus_fast."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from dbus_fast import BusType, Message, MessageType, Variant
from dbus_fast.aio import MessageBus
from dbus_fast.errors import DBusFastError
from dbus_fast.unpack import unpack_variants

from telepathy_e2e.cli.exits import Exit, NotConnected, code_of

DBUS: Final = "org.freedesktop.DBus"
DBUS_PATH: Final = "/org/freedesktop/DBus"
PROPERTIES: Final = DBUS + ".Properties"

# Every call of ours answers at once by design (transfers are told by signals); activation of the
# daemon takes less than a second. dbus-daemon's own limit for activation is 25 s as well.
CALL_TIMEOUT = 25.0


class BusError(Exit):
    """A D-Bus call was answered with an error; ``error`` is its name."""

    def __init__(self, name: str, text: str) -> None:
        super().__init__(code_of(name), text or name.rpartition(".")[2], name)


@dataclass(frozen=True)
class Signal:
    """One signal; ``args`` are plain values, variants unpacked."""

    path: str
    interface: str
    member: str
    args: tuple[Any, ...]


def typed(signature: str, value: object) -> Variant:
    """``value`` as a D-Bus variant of this signature."""
    return Variant(signature, value)


class Bus:
    """A connection to the session bus. Make it with :meth:`connect`, end it with :meth:`close`."""

    def __init__(self, bus: MessageBus) -> None:
        self._bus = bus
        self._owners: dict[str, str] = {}
        self._listeners: dict[str, list[Callable[[Signal], None]]] = {}
        self._gone: list[Callable[[str], None]] = []
        bus.add_message_handler(self._message)

    @classmethod
    async def connect(cls, address: str | None = None, *, descriptors: bool = False) -> Bus:
        """Connect to the session bus, or to ``address``.

        Args:
            descriptors: calls are going to pass some.
        Raises:
            NotConnected: there is none.
        """
        try:
            bus = await MessageBus(
                bus_address=address, bus_type=BusType.SESSION, negotiate_unix_fd=descriptors
            ).connect()
        except (OSError, EOFError, KeyError, DBusFastError) as error:
            raise NotConnected(
                "There is no D-Bus session bus here: run this in a desktop session, "
                f"or under dbus-run-session ({error or type(error).__name__})."
            ) from error
        return cls(bus)

    async def close(self) -> None:
        """Leave the bus."""
        if self._bus.connected:
            self._bus.disconnect()
            await self._bus.wait_for_disconnect()  # type: ignore[no-untyped-call]

    async def call(
        self,
        destination: str,
        path: str,
        interface: str,
        member: str,
        signature: str = "",
        *body: object,
        descriptors: Sequence[int] = (),
        patience: float = CALL_TIMEOUT,
    ) -> list[Any]:
        """Call a method; the reply's arguments as plain values.

        Args:
            descriptors: that an argument of type ``h`` in ``body`` is the index of.
            patience: seconds; longer where a person is asked before the answer.
        Raises:
            BusError: the call was answered with an error.
            NotConnected: the bus or the daemon did not answer.
        """
        message = Message(
            destination=destination,
            path=path,
            interface=interface,
            member=member,
            signature=signature,
            body=list(body),
            unix_fds=list(descriptors),
        )
        try:
            async with asyncio.timeout(patience):
                reply = await self._bus.call(message)
        except TimeoutError:
            raise NotConnected(
                f"The daemon did not answer {member} within {patience:.0f} seconds."
            ) from None
        except (EOFError, OSError) as error:
            raise NotConnected("The D-Bus session bus went away.") from error
        if reply is None:
            raise NotConnected("The D-Bus session bus went away.")
        arguments: list[Any] = [unpack_variants(value) for value in reply.body]
        if reply.message_type is MessageType.ERROR:
            text = arguments[0] if arguments and isinstance(arguments[0], str) else ""
            raise BusError(reply.error_name or "", text)
        return arguments

    async def get_all(self, destination: str, path: str, interface: str) -> dict[str, Any]:
        """All properties of one interface."""
        (values,) = await self.call(destination, path, PROPERTIES, "GetAll", "s", interface)
        return dict(values)

    async def names(self) -> list[str]:
        """The names that are owned on the bus."""
        (names,) = await self.call(DBUS, DBUS_PATH, DBUS, "ListNames")
        return list(names)

    async def watch(self, name: str, listener: Callable[[Signal], None]) -> None:
        """Give ``listener`` every signal that the owner of ``name`` sends from now on.

        Raises:
            NotConnected: nobody owns the name.
        """
        if name not in self._listeners:
            for rule in (
                f"type='signal',sender='{name}'",
                f"type='signal',sender='{DBUS}',interface='{DBUS}',"
                f"member='NameOwnerChanged',arg0='{name}'",
            ):
                await self.call(DBUS, DBUS_PATH, DBUS, "AddMatch", "s", rule)
            (owner,) = await self.call(DBUS, DBUS_PATH, DBUS, "GetNameOwner", "s", name)
            self._owners[name] = owner
            self._listeners[name] = []
        self._listeners[name].append(listener)

    def unwatch(self, name: str, listener: Callable[[Signal], None]) -> None:
        """Take back :meth:`watch`."""
        listeners = self._listeners.get(name, [])
        if listener in listeners:
            listeners.remove(listener)

    def on_name_lost(self, callback: Callable[[str], None]) -> None:
        """Call ``callback`` with each watched name that loses its owner."""
        self._gone.append(callback)

    def _message(self, message: Message) -> bool:
        if message.message_type is not MessageType.SIGNAL:
            return False
        if message.sender == DBUS:
            if message.member == "NameOwnerChanged" and len(message.body) == 3:
                name, _, new = message.body
                if name in self._owners and not new:
                    for callback in list(self._gone):
                        callback(name)
            return False
        signal: Signal | None = None
        for name, owner in self._owners.items():
            # Anybody on the bus can send us a signal; only the owner of the name is believed.
            if message.sender == owner:
                if signal is None:
                    args = tuple(unpack_variants(value) for value in message.body)
                    signal = Signal(
                        message.path or "", message.interface or "", message.member or "", args
                    )
                for listener in list(self._listeners.get(name, ())):
                    listener(signal)
        return False
