"""The contact list of a session: asked for, changed, remembered."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import XML, Element, tostring

import pytest

from telepathy_e2e.errors import E2EError
from telepathy_e2e.tasks import TaskOwner
from telepathy_e2e.xmpp import contacts as module
from telepathy_e2e.xmpp.contacts import Contacts
from telepathy_e2e.xmpp.iq import StanzaError
from telepathy_e2e.xmpp.roster import RosterChange
from telepathy_e2e.xmpp.roster_cache import RosterCache
from tests.support.waiting import PATIENCE


def query(*items: str, ver: str = "") -> Element:
    return XML(f"<query xmlns='jabber:iq:roster' ver='{ver}'>{''.join(items)}</query>")


class Server:
    """Answers as it is told, and hears what changed."""

    def __init__(self, cache: RosterCache | None = None) -> None:
        self.tasks = TaskOwner("test")
        self.contacts = Contacts(self.ask, self, tasks=self.tasks, cache=cache)
        self.asked: list[Element] = []
        self.answers: list[Element | E2EError | None] = []
        self.before_answer: Callable[[], None] = lambda: None
        self.changes: list[RosterChange] = []
        self.loaded: list[E2EError | None] = []
        self.is_impatient = False

    async def ask(self, payload: Element, type: Any, arrived: Any) -> Element | None:
        self.asked.append(payload)
        await asyncio.sleep(0)
        self.before_answer()
        answer = self.answers.pop(0) if self.answers else None
        if isinstance(answer, E2EError):
            raise answer
        if arrived is not None:
            arrived(answer)
        return answer

    def roster_changed(self, changes: list[RosterChange]) -> None:
        self.changes += changes

    def roster_loaded(self, error: E2EError | None) -> None:
        self.loaded.append(error)
        if error is not None and self.is_impatient:
            self.contacts.retry()

    async def fetch(self, *answers: Element | E2EError | None, versioned: bool = True) -> None:
        self.answers = list(answers)
        self.contacts.read_cache()
        await self.contacts.fetch(versioned=versioned)


async def test_a_list_is_there_when_all_of_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SLICE", 2)
    server = Server()
    await server.fetch(query(*(f"<item jid='{n}@x'/>" for n in range(5))), versioned=False)
    assert "ver" not in server.asked[0].attrib
    assert len(server.contacts.items) == len(server.changes) == 5
    assert server.loaded == [None]
    assert not server.contacts.loading


async def test_a_failure_is_told_and_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server()
    server.is_impatient = True
    error = StanzaError("internal-server-error")
    await server.fetch(error, query("<item jid='a@x'/>"))
    assert server.loaded == [error, None]
    assert list(server.contacts.items) == ["a@x"]


async def test_a_version_is_claimed_only_with_its_list(tmp_path: Path) -> None:
    def server() -> Server:
        return Server(RosterCache(tmp_path, "me@x"))

    first = server()
    await first.fetch(query("<item jid='a@x' name='A'/>", ver="v1"))
    assert first.asked[0].get("ver") == ""
    first.contacts.pushed(query("<item jid='b@x'/>", ver="v2"))
    await first.contacts.close()
    second = server()
    await second.fetch(None)
    assert second.asked[0].get("ver") == "v2"
    assert sorted(second.contacts.items) == ["a@x", "b@x"]
    # A push without a version: what the next one will be the difference to is not known.
    second.contacts.pushed(query("<item jid='c@x'/>"))
    await second.contacts.close()
    third = server()
    await third.fetch(query("<item jid='d@x'/>", ver="v9"))
    assert third.asked[0].get("ver") == ""
    assert list(third.contacts.items) == ["d@x"]
    for each in (first, second, third):
        await each.tasks.close()


async def test_a_list_that_was_cut_is_not_claimed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("telepathy_e2e.xmpp.roster.MAX_CONTACTS", 1)
    cache = RosterCache(tmp_path, "me@x")
    server = Server(cache)
    await server.fetch(query("<item jid='a@x'/>", "<item jid='b@x'/>", ver="v1"))
    await server.contacts.close()
    assert cache.read() is None
    await server.tasks.close()


async def test_a_list_that_is_being_written_is_on_the_disk_when_all_is_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SAVE_SECONDS", 0.0)
    cache = RosterCache(tmp_path, "me@x")
    begun, go_on, write = asyncio.Event(), threading.Event(), cache.write
    loop = asyncio.get_running_loop()

    def slowly(version: str, query: Element) -> None:
        loop.call_soon_threadsafe(begun.set)
        assert go_on.wait(PATIENCE)
        write(version, query)

    monkeypatch.setattr(cache, "write", slowly)
    server = Server(cache)
    await server.fetch(query("<item jid='a@x'/>", ver="v1"))
    await begun.wait()
    closing = asyncio.ensure_future(server.contacts.close())
    await asyncio.sleep(0)
    assert not closing.done()
    go_on.set()
    await closing
    assert cache.read() is not None
    await server.tasks.close()


async def test_a_server_without_versions_leaves_nothing_on_disk(tmp_path: Path) -> None:
    cache = RosterCache(tmp_path, "me@x")
    server = Server(cache)
    await server.fetch(query("<item jid='a@x'/>", ver="v1"), versioned=False)
    await server.contacts.close()
    assert cache.read() is None


async def test_a_change_carries_the_whole_item_and_holds_with_the_result() -> None:
    server = Server()
    await server.fetch(query("<item jid='a@x' subscription='both'><group>F</group></item>"))
    server.asked.clear()
    await server.contacts.change("a@x", lambda item: replace(item, name="Al"))
    sent = tostring(server.asked[0], encoding="unicode")
    assert 'name="Al"' in sent
    assert ">F<" in sent
    assert "subscription" not in sent
    item = server.contacts.items["a@x"]
    assert (item.name, item.subscription, item.groups) == ("Al", "both", ("F",))
    await server.contacts.change("a@x", lambda item: item)
    assert len(server.asked) == 1


async def test_two_changes_at_once_do_not_undo_each_other() -> None:
    server = Server()
    await server.fetch(query("<item jid='a@x'/>"))
    tasks = [
        server.tasks.start("one", server.contacts.change("a@x", lambda i: replace(i, name="Al"))),
        server.tasks.start(
            "two", server.contacts.change("a@x", lambda i: replace(i, groups=("G",)))
        ),
    ]
    await asyncio.wait(tasks)
    item = server.contacts.items["a@x"]
    assert (item.name, item.groups) == ("Al", ("G",))
    assert not server.contacts._writers


async def test_a_push_that_came_before_the_result_is_not_overwritten() -> None:
    server = Server()
    await server.fetch(query("<item jid='a@x'/>"))
    server.before_answer = lambda: server.contacts.pushed(query("<item jid='a@x' name='Other'/>"))
    await server.contacts.change("a@x", lambda item: replace(item, name="Al"))
    assert server.contacts.items["a@x"].name == "Other"


async def test_what_the_server_refuses_changes_nothing() -> None:
    server = Server()
    await server.fetch(query("<item jid='a@x'/>"))
    server.answers = [StanzaError("not-allowed"), StanzaError("item-not-found")]
    with pytest.raises(StanzaError):
        await server.contacts.change("a@x", lambda item: replace(item, name="Al"))
    with pytest.raises(StanzaError):
        await server.contacts.remove("a@x")
    assert server.contacts.items["a@x"].name == ""


async def test_who_is_removed_is_gone() -> None:
    server = Server()
    await server.fetch(query("<item jid='a@x'/>"))
    await server.contacts.remove("a@x")
    assert not server.contacts.items
    await server.contacts.remove("a@x")
    assert len(server.asked) == 2
