"""The handler's door to D-Bus: what tpe2e's has, and being called."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any, Final

from dbus_fast import ErrorType, Message, MessageType, NameFlag, RequestNameReply, Variant
from dbus_fast.aio import MessageBus
from dbus_fast.unpack import unpack_variants

from telepathy_e2e.cli import names
from telepathy_e2e.cli.bus import DBUS, DBUS_PATH, PROPERTIES, Bus, Signal

log = logging.getLogger(__name__)

CLIENT: Final = names.TP + "Client"
HANDLER: Final = CLIENT + ".Handler"
CLIENT_NAME: Final = CLIENT + ".E2ETrust"
CLIENT_PATH: Final = "/" + CLIENT_NAME.replace(".", "/")

FILTER: Final = {
    names.CHANNEL + ".ChannelType": Variant("s", names.PEER_VERIFICATION),
    names.CHANNEL + ".Requested": Variant("b", False),
}

INTROSPECTION: Final = f"""<!DOCTYPE node PUBLIC "-//freedesktop//DTD D-BUS Object Introspection 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/introspect.dtd">
<node>
 <interface name="org.freedesktop.DBus.Introspectable">
  <method name="Introspect"><arg type="s" direction="out"/></method>
 </interface>
 <interface name="{PROPERTIES}">
  <method name="Get"><arg type="s" direction="in"/><arg type="s" direction="in"/>
   <arg type="v" direction="out"/></method>
  <method name="GetAll"><arg type="s" direction="in"/><arg type="a{{sv}}" direction="out"/></method>
 </interface>
 <interface name="{CLIENT}"><property name="Interfaces" type="as" access="read"/></interface>
 <interface name="{HANDLER}">
  <property name="HandlerChannelFilter" type="aa{{sv}}" access="read"/>
  <property name="BypassApproval" type="b" access="read"/>
  <property name="Capabilities" type="as" access="read"/>
  <property name="HandledChannels" type="ao" access="read"/>
  <method name="HandleChannels">
   <arg name="Account" type="o" direction="in"/><arg name="Connection" type="o" direction="in"/>
   <arg name="Channels" type="a(oa{{sv}})" direction="in"/>
   <arg name="Requests_Satisfied" type="ao" direction="in"/>
   <arg name="User_Action_Time" type="t" direction="in"/>
   <arg name="Handler_Info" type="a{{sv}}" direction="in"/>
  </method>
 </interface>
</node>"""  # noqa: E501


class HandlerBus(Bus):
    """A connection to the bus that other programs can call.

    ``handle_channels`` is called with the connection's object path and the channels' paths;
    ``handled`` gives the paths that HandledChannels shows; ``on_signal`` gets (sender, signal) of
    everything that ``match`` let in.
    """

    def __init__(self, bus: MessageBus) -> None:
        super().__init__(bus)
        self.handle_channels: Callable[[str, list[str]], None] = lambda connection, paths: None
        self.handled: Callable[[], list[str]] = lambda: []
        self.on_signal: Callable[[str, Signal], None] = lambda sender, signal: None
        bus.add_message_handler(self._incoming)

    @property
    def unique_name(self) -> str:
        return self._bus.unique_name or ""

    async def own(self, name: str) -> bool:
        """Take this name, unless somebody has it."""
        reply = await self._bus.request_name(name, NameFlag.DO_NOT_QUEUE)
        return reply in (RequestNameReply.PRIMARY_OWNER, RequestNameReply.ALREADY_OWNER)

    async def match(self, rule: str) -> None:
        """Let these signals in."""
        await self.call(DBUS, DBUS_PATH, DBUS, "AddMatch", "s", rule)

    async def owner(self, name: str) -> str:
        """Who owns this name.

        Raises:
            BusError: nobody.
        """
        (unique,) = await self.call(DBUS, DBUS_PATH, DBUS, "GetNameOwner", "s", name)
        return str(unique)

    async def gone(self) -> None:
        """Wait until the bus is no more."""
        try:
            # dbus-fast has one future for all who wait: who stops waiting must not cancel it.
            await asyncio.shield(self._bus.wait_for_disconnect())  # type: ignore[no-untyped-call]
        except (OSError, EOFError) as error:
            log.info("the bus went away: %s", error or type(error).__name__)

    # -- inside -------------------------------------------------------------------------------

    def _incoming(self, message: Message) -> Message | bool | None:
        if message.message_type is MessageType.SIGNAL:
            args = tuple(unpack_variants(value) for value in message.body)
            self.on_signal(
                message.sender or "",
                Signal(message.path or "", message.interface or "", message.member or "", args),
            )
            return None
        if message.message_type is MessageType.METHOD_CALL and message.path == CLIENT_PATH:
            return self._answer(message)
        return None

    def _properties(self, interface: str) -> dict[str, Variant]:
        match interface:
            case _ if interface == CLIENT:
                return {"Interfaces": Variant("as", [HANDLER])}
            case _ if interface == HANDLER:
                return {
                    "HandlerChannelFilter": Variant("aa{sv}", [FILTER]),
                    # Nobody has to approve of a question before he is asked it.
                    "BypassApproval": Variant("b", True),
                    "Capabilities": Variant("as", []),
                    "HandledChannels": Variant("ao", self.handled()),
                }
        return {}

    def _answer(self, message: Message) -> Message | None:
        body: list[Any] = list(message.body)
        match message.interface or HANDLER, message.member, message.signature:
            case (_, "HandleChannels", "ooa(oa{sv})aota{sv}") if message.interface == HANDLER:
                self.handle_channels(body[1], [path for path, _ in body[2]])
                return Message.new_method_return(message)
            case (_, "GetAll", "s") if message.interface == PROPERTIES:
                return Message.new_method_return(message, "a{sv}", [self._properties(body[0])])
            case (_, "Get", "ss") if message.interface == PROPERTIES:
                value = self._properties(body[0]).get(body[1])
                if value is None:
                    return Message.new_error(
                        message, ErrorType.UNKNOWN_PROPERTY, "There is no such property"
                    )
                return Message.new_method_return(message, "v", [value])
            case ("org.freedesktop.DBus.Introspectable", "Introspect", ""):
                return Message.new_method_return(message, "s", [INTROSPECTION])
        if message.interface == "org.freedesktop.DBus.Peer":
            return None  # dbus-fast answers
        return Message.new_error(message, ErrorType.UNKNOWN_METHOD, "There is no such method")
