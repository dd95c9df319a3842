"""Requests right after the login: contacts' presences are still on their way."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from telepathy_e2e.errors import Disconnected
from telepathy_e2e.service import presence
from telepathy_e2e.service.presence import DISCONNECTED, PresenceFeature

from .service_support import turns, within

BOB, STRANGER, HIDDEN = "bob@example.org", "mallory@example.org", "carol@example.org"


class Server:
    """What is known of contacts: nothing yet."""

    def __init__(self) -> None:
        self.there: set[str] = set()
        self.gone: set[str] = set()

    def contacts(self) -> dict[str, Any]:
        return {BOB: SimpleNamespace(seen=True), HIDDEN: SimpleNamespace(seen=False)}

    def resources(self, jid: str) -> list[str]:
        return [f"{jid}/here"] if jid in self.there else []

    def last_words(self, jid: str) -> str | None:
        return "bye" if jid in self.gone else None


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
async def presences(server: Server, monkeypatch: pytest.MonkeyPatch) -> PresenceFeature:
    account: Any = SimpleNamespace(
        client=server, self_id="alice@example.org", status=DISCONNECTED, handles=None
    )
    monkeypatch.setattr(presence, "ARRIVING", 3600.0)
    made = PresenceFeature(account)
    made.connected()
    return made


async def test_who_shows_himself_is_waited_for(presences: PresenceFeature, server: Server) -> None:
    waiting = [asyncio.ensure_future(presences.settled(BOB)) for _ in range(2)]
    await turns()
    presences.roster_loaded(None)
    await turns()
    server.there.add(HIDDEN)
    presences.changed(HIDDEN)
    await turns()
    assert not any(each.done() for each in waiting)
    server.there.add(BOB)
    presences.changed(BOB)
    for each in waiting:
        await within(each)


async def test_who_says_that_he_is_away_is_not(presences: PresenceFeature, server: Server) -> None:
    presences.roster_loaded(None)
    waiting = asyncio.ensure_future(presences.settled(BOB))
    await turns()
    server.gone.add(BOB)
    presences.changed(BOB)
    await within(waiting)


@pytest.mark.parametrize("jid", [STRANGER, HIDDEN])
async def test_who_does_not_show_himself_to_us_is_not(presences: PresenceFeature, jid: str) -> None:
    presences.roster_loaded(None)
    waiting = asyncio.ensure_future(presences.settled(jid))
    await turns()
    assert waiting.done()


async def test_who_does_not_come_is_not_for_long(
    presences: PresenceFeature, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(presence, "ARRIVING", 0.05)
    presences.connected()
    presences.roster_loaded(None)
    await within(asyncio.ensure_future(presences.settled(BOB)))
    # Nor is anybody afterwards, and neither is the list.
    await within(asyncio.ensure_future(presences.settled(BOB)))


async def test_the_end_of_the_connection_ends_the_wait(presences: PresenceFeature) -> None:
    presences.roster_loaded(None)
    waiting = asyncio.ensure_future(presences.settled(BOB))
    await turns()
    presences.disconnected(Disconnected("gone"), stopped=True)
    with pytest.raises(Disconnected):
        await within(waiting)
