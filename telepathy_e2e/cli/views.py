"""Mirrors of the daemon's objects: they fill once, follow the signals, and can be waited for."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from telepathy_e2e.cli import names
from telepathy_e2e.cli.bus import PROPERTIES, Bus, BusError, Signal, typed
from telepathy_e2e.cli.exits import Exit, NotConnected, UsageError
from telepathy_e2e.cli.together import first

# What is lost of a tube's connections when nobody looks at them.
MAX_TUBE_NEWS = 4096

# What CallStateChanged says, by the names of the properties.
_CALL_STATE = ("CallState", "CallFlags", "CallStateReason", "CallStateDetails")


class View:
    """Something that changes; ``wait`` returns as soon as its predicate holds."""

    def __init__(self) -> None:
        self._event = asyncio.Event()
        self.lost = False

    def _touch(self) -> None:
        event, self._event = self._event, asyncio.Event()
        event.set()

    async def wait(self, predicate: Callable[[], bool]) -> None:
        """Wait until ``predicate`` holds.

        Raises:
            NotConnected: the daemon left the bus before.
        """
        while not predicate():
            if self.lost:
                raise NotConnected("The daemon went away: its log says why (TELEPATHY_E2E_DEBUG).")
            await self._event.wait()

    async def unless(self, moot: Callable[[], bool], asking: Coroutine[Any, Any, str]) -> str:
        """The result of ``asking``, or empty as soon as ``moot`` holds."""
        winner, result = await first(asking, self.wait(moot))
        return str(result) if winner == 0 else ""


class ChannelView(View):
    """One channel: its properties by (interface, name), and what its signals said."""

    def __init__(self, connection: ConnectionView, path: str, immutable: Mapping[str, Any]) -> None:
        super().__init__()
        self.connection = connection
        self.path = path
        self.values: dict[tuple[str, str], Any] = {}
        for name, value in immutable.items():
            interface, _, member = name.rpartition(".")
            self.values[interface, member] = value
        self.closed = False
        self.state_reason = 0
        self.peer_started = ""
        # What CeremonyFailed said: method, reason, whether it was one of the tries.
        self.failures: list[tuple[str, str, bool]] = []
        self.finished: tuple[str, str] | None = None
        # What MediaLost said: source or sink, and why.
        self.media_lost: list[tuple[str, str]] = []
        # What became of a tube's connections: number, and why it is over or None if it is new.
        self.tube_news: deque[tuple[int, tuple[str, str] | None]] = deque(maxlen=MAX_TUBE_NEWS)
        # Numbers each signal, so that a change and the change back are not taken for nothing.
        self.states: list[Any] = []

    @property
    def type(self) -> str:
        return str(self.values.get((names.CHANNEL, "ChannelType"), ""))

    @property
    def target(self) -> str:
        return str(self.values.get((names.CHANNEL, "TargetID"), ""))

    @property
    def requested(self) -> bool:
        return bool(self.values.get((names.CHANNEL, "Requested"), False))

    @property
    def state(self) -> Any:
        """File_Transfer_State, or the state of a PeerVerification1."""
        return self.values.get((self.type, "State"))

    def get(self, interface: str, name: str, default: Any = None) -> Any:
        return self.values.get((interface, name), default)

    async def fill(self) -> None:
        """Read all properties of the type and of what protects the channel; signals are followed
        from before, and what a signal said is never overwritten by an older answer.
        """
        tube = [names.TUBE] if self.type in (names.STREAM_TUBE, names.DBUS_TUBE) else []
        for interface in (self.type, *tube, names.SECURABLE, names.SECURITY):
            if interface != self.type and self.type == names.PEER_VERIFICATION:
                continue
            seen = len(self.states)
            try:
                values = await self.connection.bus.get_all(
                    self.connection.name, self.path, interface
                )
            except BusError:
                # Gone already, or a channel without that interface: the signals tell which.
                continue
            for name, value in values.items():
                if len(self.states) == seen or (interface, name) not in self.values:
                    self.values[interface, name] = value
            if len(self.states) == seen and not self.peer_started:
                # Who comes late has missed the signal.
                self.peer_started = str(values.get("StartedMethod", ""))
        self._touch()

    async def read(self, interface: str) -> None:
        """Read the properties of one interface again; a channel that is gone keeps the old ones."""
        connection = self.connection
        while True:
            seen = len(self.states)
            try:
                values = await connection.bus.get_all(connection.name, self.path, interface)
            except BusError:
                return
            if len(self.states) == seen:
                break
            # A signal came meanwhile, and is newer than this answer.
        self.values.update({(interface, name): value for name, value in values.items()})

    async def call(self, interface: str, member: str, signature: str = "", *body: object) -> Any:
        """Call a method of the channel; its first result or None."""
        reply = await self.connection.bus.call(
            self.connection.name, self.path, interface, member, signature, *body
        )
        return reply[0] if reply else None

    async def set(self, interface: str, name: str, value: object) -> None:
        """Set a property; ``value`` is typed."""
        await self.call(PROPERTIES, "Set", "ssv", interface, name, value)

    async def close(self) -> None:
        """Channel.Close, also when it is gone already."""
        if self.closed or self.lost:
            return
        try:
            await self.call(names.CHANNEL, "Close")
        except Exit:  # also where the bus went: see ``ConnectionView.withdraw``
            self.closed = True

    async def why(self) -> BusError | None:
        """What ended the channel, as the daemon tells whoever still calls it."""
        try:
            await self.call(names.SECURITY, "Verify")
        except BusError as error:
            return error if error.error.startswith(names.TP) else None
        return None

    def signal(self, signal: Signal) -> None:
        """One signal from this object."""
        match signal.interface, signal.member:
            case (_, "PropertiesChanged") if signal.interface == PROPERTIES:
                interface, changed, _ = signal.args
                for name, value in changed.items():
                    self.values[interface, name] = value
                self.states.append(changed.get("State"))
            case names.FILE_TRANSFER, "FileTransferStateChanged":
                state, self.state_reason = signal.args
                self.values[names.FILE_TRANSFER, "State"] = state
                self.states.append(state)
            case names.FILE_TRANSFER, "TransferredBytesChanged":
                (self.values[names.FILE_TRANSFER, "TransferredBytes"],) = signal.args
            case names.FILE_TRANSFER, "InitialOffsetDefined":
                (self.values[names.FILE_TRANSFER, "InitialOffset"],) = signal.args
                self.states.append(None)
            case names.CALL, "CallStateChanged":
                for name, value in zip(_CALL_STATE, signal.args, strict=True):
                    self.values[names.CALL, name] = value
                self.states.append(None)
            case names.CALL, "CallMembersChanged":
                changed, _, removed, _ = signal.args
                members = {**self.get(names.CALL, "CallMembers", {}), **changed}
                left = {handle: flags for handle, flags in members.items() if handle not in removed}
                self.values[names.CALL, "CallMembers"] = left
                self.states.append(None)
            case names.CALL_MUTE, "MuteStateChanged":
                (self.values[names.CALL_MUTE, "LocalMuteState"],) = signal.args
            case names.CALL_MEDIA, "MediaLost":
                _, what, why = signal.args
                self.media_lost.append((what, why))
            case names.TUBE, "TubeChannelStateChanged":
                (self.values[names.TUBE, "State"],) = signal.args
                self.states.append(None)
            case names.STREAM_TUBE, "NewRemoteConnection":
                _, _, number = signal.args
                self.tube_news.append((number, None))
            case names.STREAM_TUBE, "NewLocalConnection":
                (number,) = signal.args
                self.tube_news.append((number, None))
            case names.STREAM_TUBE, "ConnectionClosed":
                number, error, message = signal.args
                self.tube_news.append((number, (error, message)))
            case names.PEER_VERIFICATION, "PeerStarted":
                (self.peer_started,) = signal.args
            case names.PEER_VERIFICATION, "CeremonyFailed":
                method, reason, spent = signal.args
                self.failures.append((method, reason, spent))
                self.peer_started = ""
            case names.PEER_VERIFICATION, "Finished":
                state, method = signal.args
                self.finished = (state, method)
                # What the other side begins from now on is news.
                self.peer_started = ""
                self.values[names.PEER_VERIFICATION, "State"] = state
                self.states.append(state)
            case names.CHANNEL, "Closed":
                self.closed = True
            case _:
                return
        self._touch()

    def gone(self, *, lost: bool) -> None:
        """The channel is no more, or with ``lost`` the whole daemon."""
        self.closed = True
        self.lost = self.lost or lost
        self._touch()


class ConnectionView(View):
    """One connection and its channels. ``open`` fills it; ``close`` stops following."""

    def __init__(self, bus: Bus, name: str, path: str) -> None:
        super().__init__()
        self.bus = bus
        self.name = name
        self.path = path
        self.values: dict[str, Any] = {}
        self.error: tuple[str, dict[str, Any]] | None = None
        self.status = names.DISCONNECTED
        self.status_reason = 0
        self.channels: dict[str, ChannelView] = {}
        # What contacts (handles) are known to take: classes of channels.
        self.capabilities: dict[int, list[tuple[dict[str, Any], list[str]]]] = {}
        self.on_channel: Callable[[ChannelView], None] | None = None

    @property
    def account(self) -> str:
        """The own bare JID, or what the daemon calls it."""
        return str(self.values.get("SelfID", "") or self.path.rpartition("/")[2])

    async def open(self) -> None:
        """Start to follow the connection, and read what there is.

        Raises:
            BusError, NotConnected: it is gone.
        """
        await self.bus.watch(self.name, self._signal)
        self.bus.on_name_lost(self._name_lost)
        self.values = await self.bus.get_all(self.name, self.path, names.CONNECTION)
        self.status = self.values.get("Status", names.DISCONNECTED)
        try:
            requests = await self.bus.get_all(self.name, self.path, names.REQUESTS)
        except BusError:
            return
        for path, immutable in requests.get("Channels", ()):
            self._add(path, immutable)

    async def wait_gone(self) -> None:
        """Wait until the connection is off the bus, or says that it is disconnected."""
        while not self.lost and self.status != names.DISCONNECTED:
            await self._event.wait()

    async def call(self, interface: str, member: str, signature: str = "", *body: object) -> Any:
        """Call a method of the connection; its results as a list."""
        return await self.bus.call(self.name, self.path, interface, member, signature, *body)

    async def announce(self, what: str, *types: str | Mapping[str, str]) -> None:
        """UpdateCapabilities: the command ``what`` handles channels of these types with contacts,
        or with none given no longer does.

        Args:
            types: a type, or the fixed properties of a class of channels, which are strings.
        """
        classes = [
            {
                names.CHANNEL + ".TargetHandleType": typed("u", names.HANDLE_TYPE_CONTACT),
                **{name: typed("s", value) for name, value in _fixed(each).items()},
            }
            for each in types
        ]
        client = f"{names.CLIENT}.{what}" if what else names.CLIENT
        await self.call(
            names.CONTACT_CAPABILITIES,
            "UpdateCapabilities",
            "a(saa{sv}as)",
            [[client, classes, []]],
        )

    async def withdraw(self, what: str) -> None:
        """Take back what ``announce`` said, for as long as there is somebody to tell. To be awaited
        under ``asyncio.shield``: nobody looks at how it ends when the command is interrupted again.
        """
        if not self.lost and self.status == names.CONNECTED:
            with contextlib.suppress(Exit):
                await self.announce(what)

    async def create_channel(self, request: Mapping[str, object]) -> ChannelView:
        """Requests.CreateChannel with typed values; the channel, followed already."""
        path, immutable = await self.call(names.REQUESTS, "CreateChannel", "a{sv}", dict(request))
        return self._add(path, immutable)

    def question_about(self, payload: str) -> ChannelView | None:
        """The PeerVerification1 channel about the channel ``payload``, if one is there."""
        for channel in self.channels.values():
            if (
                channel.type == names.PEER_VERIFICATION
                and channel.get(names.PEER_VERIFICATION, "PayloadChannel") == payload
                and not channel.closed
            ):
                return channel
        return None

    def _add(self, path: str, immutable: Mapping[str, Any]) -> ChannelView:
        channel = self.channels.get(path)
        if channel is None:
            channel = self.channels[path] = ChannelView(self, path, immutable)
            if self.on_channel is not None:
                self.on_channel(channel)
        return channel

    def _signal(self, signal: Signal) -> None:
        if signal.path != self.path:
            if (channel := self.channels.get(signal.path)) is not None:
                channel.signal(signal)
                self._touch()
            return
        match signal.interface, signal.member:
            case names.CONNECTION, "StatusChanged":
                self.status, self.status_reason = signal.args
            case names.CONNECTION, "ConnectionError":
                name, details = signal.args
                self.error = (name, details)
            case names.CONNECTION, "SelfContactChanged":
                self.values["SelfHandle"], self.values["SelfID"] = signal.args
            case names.CONTACT_CAPABILITIES, "ContactCapabilitiesChanged":
                self.capabilities.update(signal.args[0])
            case names.REQUESTS, "NewChannels":
                for path, immutable in signal.args[0]:
                    self._add(path, immutable)
            case names.REQUESTS, "ChannelClosed":
                if (channel := self.channels.pop(signal.args[0], None)) is not None:
                    channel.gone(lost=False)
            case _:
                return
        self._touch()

    def _name_lost(self, name: str) -> None:
        if name != self.name:
            return
        self.lost = True
        # A connection that ended in the ordinary way also drops its name.
        crashed = self.status != names.DISCONNECTED
        for channel in list(self.channels.values()):
            channel.gone(lost=crashed)
        self._touch()


def _fixed(channel_class: str | Mapping[str, str]) -> Mapping[str, str]:
    if isinstance(channel_class, str):
        return {names.CHANNEL + ".ChannelType": channel_class}
    return channel_class


async def connections(bus: Bus) -> list[ConnectionView]:
    """The daemon's connections, each followed."""
    found = []
    for name in sorted(await bus.names()):
        if name.startswith(names.CONNECTION_PREFIX):
            view = ConnectionView(bus, name, "/" + name.replace(".", "/"))
            try:
                await view.open()
            except BusError:
                continue  # it went while we looked
            found.append(view)
    return found


def same_account(one: str, other: str) -> bool:
    """Whether two JIDs are of the same account, as far as a client can tell."""
    return one.partition("/")[0].casefold() == other.partition("/")[0].casefold()


async def the_connection(bus: Bus, account: str | None) -> ConnectionView:
    """The connected connection of ``account`` (bare JID), or the only one.

    Raises:
        NotConnected: there is none (of that account).
        UsageError: there are several, and none was named.
    """
    found = [view for view in await connections(bus) if view.status == names.CONNECTED]
    if account is not None:
        found = [view for view in found if same_account(view.account, account)]
        if not found:
            raise NotConnected(f"{account} is not logged in: run 'tpe2e connect {account}' first.")
    if not found:
        raise NotConnected("Nobody is logged in: run 'tpe2e connect ACCOUNT' first.")
    if len(found) > 1:
        accounts = ", ".join(view.account for view in found)
        raise UsageError(f"Several accounts are logged in ({accounts}): add --account.")
    return found[0]
