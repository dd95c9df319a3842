"""Passwords and certificates asked for on a desktop: Mission Control, with a handler or none."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import pytest_asyncio
from dbus_fast import Message, MessageType, Variant

from tests.scenarios import test_bus_mission_control as mission_control
from tests.scenarios.test_bus_mission_control import TP, Accounts
from tests.support.bus import PROPERTIES, RawClient
from tests.support.prosody import PASSWORD, Certificate, Prosody
from tests.support.side import CHANNEL

AUTHENTICATION = CHANNEL + ".Type.ServerAuthentication"
SASL = CHANNEL + ".Interface.SASLAuthentication"
TLS = CHANNEL + ".Type.ServerTLSConnection"
CERTIFICATE = TP + "Authentication.TLSCertificate"
CLIENT = TP + "Client"

pytestmark = mission_control.pytestmark
client = mission_control.client


class Handler:
    """A program that handles both questions, as KDE's does: by filter, without an approver."""

    def __init__(self, client: RawClient) -> None:
        self.client = client
        client.bus.add_message_handler(self._called)

    @classmethod
    async def start(cls, client: RawClient) -> Handler:
        handler = cls(client)
        await client.bus.request_name(CLIENT + ".Questions")
        return handler

    async def next(self, channel_type: str) -> tuple[str, str, dict[str, Any]]:
        """The channel of this type that was given to us: bus name, path, properties."""
        found = await self.client.until(
            lambda m: (
                m.member == "HandleChannels"
                and m.body[2][0][1][CHANNEL + ".ChannelType"].value == channel_type
            )
        )
        path, properties = found.body[2][0]
        shown = {name: value.value for name, value in properties.items()}
        return found.body[1][1:].replace("/", "."), path, shown

    def _called(self, message: Message) -> Message | None:
        if message.message_type is not MessageType.METHOD_CALL:
            return None
        if message.interface == PROPERTIES:
            shown = self._properties().get(message.body[0], {})
            if message.member == "GetAll":
                return Message.new_method_return(message, "a{sv}", [shown])
            return Message.new_method_return(message, "v", [shown[message.body[1]]])
        if message.member == "HandleChannels":
            return Message.new_method_return(message)
        return None

    def _properties(self) -> dict[str, dict[str, Variant]]:
        common = {
            CHANNEL + ".TargetHandleType": Variant("u", 0),
            CHANNEL + ".Requested": Variant("b", False),
        }
        method = {AUTHENTICATION + ".AuthenticationMethod": Variant("s", SASL)}
        filters = [
            {CHANNEL + ".ChannelType": Variant("s", TLS), **common},
            {CHANNEL + ".ChannelType": Variant("s", AUTHENTICATION), **common, **method},
        ]
        return {
            CLIENT: {"Interfaces": Variant("as", [CLIENT + ".Handler"])},
            CLIENT + ".Handler": {
                "HandlerChannelFilter": Variant("aa{sv}", filters),
                "BypassApproval": Variant("b", False),
                "Capabilities": Variant("as", []),
                "HandledChannels": Variant("ao", []),
            },
        }


@pytest_asyncio.fixture
async def handler(client: RawClient) -> AsyncIterator[Handler]:
    yield await Handler.start(client)


@pytest.fixture(scope="module")
def strange() -> Iterator[Prosody]:
    server = Prosody.start(certificate=Certificate.SELF_SIGNED)
    yield server
    server.stop()


async def failure(account: Accounts) -> tuple[int, str]:
    shown = await account.until(lambda a: a["ConnectionError"] and a["ConnectionStatus"] == 2)
    return shown["ConnectionStatusReason"], shown["ConnectionError"].removeprefix(TP + "Error.")


async def answer(client: RawClient, name: str, path: str, password: bytes) -> int:
    """Give a password; the status that comes of it."""
    told = len(client.signals("SASLStatusChanged"))
    call = (name, path, SASL, "StartMechanismWithData", "say", "X-TELEPATHY-PASSWORD", password)
    await client.value(*call)
    await client.until(lambda _: len(client.signals("SASLStatusChanged")) > told + 1)
    return int(client.signals("SASLStatusChanged")[-1].body[0])


@pytest.mark.parametrize("given", ["", "of yesterday"])
async def test_a_handler_gives_the_password(
    client: RawClient, handler: Handler, prosody: Prosody, given: str
) -> None:
    account = await Accounts.create(client, prosody, given)
    await account.request(2, "available", "")
    name, path, shown = await handler.next(AUTHENTICATION)
    assert shown[SASL + ".AuthorizationIdentity"] == prosody.jid("alice")
    assert await answer(client, name, path, b"wrong") == 5
    assert await answer(client, name, path, PASSWORD.encode()) == 2
    await client.value(name, path, SASL, "AcceptSASL")
    await client.value(name, path, CHANNEL, "Close")
    await account.until(lambda a: a["ConnectionStatus"] == 0)


async def test_a_handler_that_closes_gives_up(
    client: RawClient, handler: Handler, prosody: Prosody
) -> None:
    account = await Accounts.create(client, prosody, "")
    await account.request(2, "available", "")
    name, path, _ = await handler.next(AUTHENTICATION)
    await client.value(name, path, CHANNEL, "Close")
    assert await failure(account) == (3, "AuthenticationFailed")


async def test_without_a_handler_an_account_without_a_password_fails_at_once(
    client: RawClient, prosody: Prosody
) -> None:
    account = await Accounts.create(client, prosody, "")
    await account.request(2, "available", "")
    assert await failure(account) == (3, "AuthenticationFailed")


async def test_a_handler_accepts_the_certificate(
    client: RawClient, handler: Handler, strange: Prosody
) -> None:
    account = await Accounts.create(client, strange, PASSWORD)
    await account.request(2, "available", "")
    name, path, shown = await handler.next(TLS)
    assert shown[TLS + ".Hostname"] == strange.domain
    await client.value(name, shown[TLS + ".ServerCertificate"], CERTIFICATE, "Accept")
    await client.value(name, path, CHANNEL, "Close")
    await account.until(lambda a: a["ConnectionStatus"] == 0)


async def test_a_handler_rejects_the_certificate_as_kde_does(
    client: RawClient, handler: Handler, strange: Prosody
) -> None:
    account = await Accounts.create(client, strange, PASSWORD)
    await account.request(2, "available", "")
    name, path, shown = await handler.next(TLS)
    target = (name, shown[TLS + ".ServerCertificate"], CERTIFICATE)
    await client.value(*target, "Reject", "a(usa{sv})", [])
    await client.call(name, path, CHANNEL, "Close")
    assert await failure(account) == (7, "Cert.Untrusted")


async def test_without_a_handler_a_bad_certificate_fails_at_once(
    client: RawClient, strange: Prosody
) -> None:
    account = await Accounts.create(client, strange, PASSWORD)
    await account.request(2, "available", "")
    assert await failure(account) == (12, "Cert.SelfSigned")
