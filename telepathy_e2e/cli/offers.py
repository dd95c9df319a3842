"""Waiting for tubes that contacts offer, and letting them know that somebody does."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import cast

from telepathy_e2e.cli import names
from telepathy_e2e.cli.bus import Bus, BusError
from telepathy_e2e.cli.exits import TP_ERROR, NotConnected
from telepathy_e2e.cli.names import TubeState
from telepathy_e2e.cli.together import first
from telepathy_e2e.cli.tubes import SERVICE, service_of, state_of
from telepathy_e2e.cli.views import (
    ChannelView,
    ConnectionView,
    connections,
    same_account,
    the_connection,
)


class Offers:
    """Tubes that contacts offer, one after the other.

    Args:
        following: to these accounts.
        kind: channel type.
        sender, service: from this contact, of this service only; None: any.
    """

    def __init__(
        self,
        following: Sequence[ConnectionView],
        kind: str,
        sender: str | None,
        service: str | None,
    ) -> None:
        self._following = following
        self._kind = kind
        self._sender = sender
        self._service = service
        self._seen: set[str] = set()

    async def next(self) -> ChannelView:
        """The next one that waits for an answer.

        Raises:
            NotConnected: an account is not logged in any more.
        """
        while True:
            number, channel = await first(*(self._next(each) for each in self._following))
            if channel is None:
                account = self._following[number].account
                raise NotConnected(f"{account} is not logged in any more.")
            channel = cast(ChannelView, channel)
            self._seen.add(channel.path)
            await channel.fill()
            if state_of(channel) == TubeState.LOCAL_PENDING and not channel.closed:
                return channel

    async def _next(self, connection: ConnectionView) -> ChannelView | None:
        await connection.wait(
            lambda: connection.status != names.CONNECTED or self._fresh(connection) is not None
        )
        return self._fresh(connection) if connection.status == names.CONNECTED else None

    def _fresh(self, connection: ConnectionView) -> ChannelView | None:
        return next((each for each in connection.channels.values() if self._wanted(each)), None)

    def _wanted(self, channel: ChannelView) -> bool:
        return (
            channel.type == self._kind
            and not channel.requested
            and not channel.closed
            and channel.path not in self._seen
            and (self._sender is None or same_account(channel.target, self._sender))
            and (self._service is None or service_of(channel) == self._service)
        )


def handled(kind: str, service: str | None) -> Mapping[str, str]:
    """The class of channels of this type and service, for capabilities."""
    fixed = {names.CHANNEL + ".ChannelType": kind}
    return fixed if service is None else {**fixed, f"{kind}.{SERVICE[kind]}": service}


@contextlib.asynccontextmanager
async def announced(
    what: str,
    key: tuple[str | None, str | None],
    following: Sequence[ConnectionView],
    *classes: str | Mapping[str, str],
) -> AsyncIterator[None]:
    """These accounts handle these channels for as long as the context lasts.

    Args:
        what: the command.
        key: contact and service. Several of one command run side by side, each for its own; and a
            second run of the same heals what one that was killed could not take back.
    """
    client = f"{what}_{hashlib.sha256(repr(key).encode()).hexdigest()[:16]}"
    try:
        for connection in following:
            await connection.announce(client, *classes)
        yield
    finally:
        for connection in following:
            await asyncio.shield(connection.withdraw(client))


async def follow(bus: Bus, account: str | None) -> list[ConnectionView]:
    """The accounts that are meant: this one, or all that are logged in.

    Raises:
        NotConnected: none is.
    """
    if account is not None:
        return [await the_connection(bus, account)]
    found = [each for each in await connections(bus) if each.status == names.CONNECTED]
    if not found:
        raise NotConnected("Nobody is logged in: run 'tpe2e connect ACCOUNT' first.")
    return found


def taken_elsewhere(channel: ChannelView, error: BusError) -> bool:
    """Whether Accept failed because another program was faster."""
    return error.error == TP_ERROR + "NotAvailable" and not channel.closed
