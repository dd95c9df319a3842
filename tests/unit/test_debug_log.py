"""The log: what is shown, what is kept, and what never is in it (Telepathy, Debug)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator

import pytest

from telepathy_e2e.bus.debug import PATH, DebugInterface
from telepathy_e2e.bus.members import Interface
from telepathy_e2e.debug_log import (
    CRITICAL,
    DEBUG,
    INFO,
    MAX_MESSAGES,
    MAX_TEXT,
    STANZAS,
    WARNING,
    Ring,
    _Categories,
    configure,
)

ours = logging.getLogger("telepathy_e2e")


@pytest.fixture
def ring() -> Iterator[Ring]:
    before, root = ours.level, logging.getLogger().level
    made = configure("")
    yield made
    ours.removeHandler(made)
    ours.setLevel(before)
    logging.getLogger().setLevel(root)


def test_everything_of_ours_is_kept_whatever_standard_error_shows(ring: Ring) -> None:
    log = logging.getLogger("telepathy_e2e.xmpp.client")
    log.debug("%s came", "somebody")
    log.info("well")
    log.warning("hm")
    log.error("oh")
    assert [each[1:] for each in ring.messages] == [
        ("e2e/xmpp", DEBUG, "somebody came"),
        ("e2e/xmpp", INFO, "well"),
        ("e2e/xmpp", WARNING, "hm"),
        ("e2e/xmpp", CRITICAL, "oh"),
    ]


def test_what_others_log_is_not_kept(ring: Ring) -> None:
    logging.getLogger("slixmpp.xmlstream").error("SEND: <auth>c2VjcmV0</auth>")
    assert not ring.messages


def test_of_an_exception_only_its_name_is_kept(ring: Ring) -> None:
    try:
        raise ValueError("what the peer wrote")
    except ValueError:
        ours.exception("a task died")
    assert ring.messages[0].text == "a task died (ValueError)"


def test_the_number_of_messages_and_their_lengths_are_bounded(ring: Ring) -> None:
    for number in range(MAX_MESSAGES + 1):
        ours.info("%d %s", number, "x" * MAX_TEXT)
    assert len(ring.messages) == MAX_MESSAGES
    assert ring.messages[0].text.startswith("1 ")
    assert {len(each.text) for each in ring.messages} == {MAX_TEXT}


@pytest.mark.parametrize(
    ("debug", "name", "level", "shown"),
    [
        ("", "telepathy_e2e.xmpp.client", logging.DEBUG, False),
        ("", "telepathy_e2e.xmpp.client", logging.INFO, True),
        ("xmpp", "telepathy_e2e.xmpp.client", logging.DEBUG, True),
        ("xmpp", "telepathy_e2e.xmppish", logging.DEBUG, False),
        ("bus, xmpp", "telepathy_e2e.xmpp", logging.DEBUG, True),
        ("bus", "telepathy_e2e.xmpp", logging.DEBUG, False),
        ("all", "telepathy_e2e.anything", logging.DEBUG, True),
    ],
)
def test_standard_error_shows_what_was_asked_for(
    debug: str, name: str, level: int, shown: bool
) -> None:
    record = logging.LogRecord(name, level, __file__, 1, "x", None, None)
    assert _Categories(debug).filter(record) is shown


def test_logs_of_others_are_never_turned_up(ring: Ring) -> None:
    for name in ("slixmpp", "dbus_fast", "asyncio"):
        assert logging.getLogger(name).getEffectiveLevel() >= logging.WARNING


@pytest.mark.parametrize(("debug", "shown"), [("", False), ("bus", False), ("xmpp", True)])
def test_stanzas_have_lines_only_if_somebody_asked(debug: str, shown: bool) -> None:
    before = ours.level
    ring = configure(debug)
    try:
        logging.getLogger(STANZAS).debug("< message")
        assert bool(ring.messages) is shown
    finally:
        ours.removeHandler(ring)
        ours.setLevel(before)


class Sink:
    def __init__(self) -> None:
        self.signals: list[tuple[str, list[object]]] = []

    def emit(
        self, path: str, interface: str, member: str, signature: str, body: list[object]
    ) -> None:
        assert (path, interface, signature) == (PATH, DebugInterface.name, "dsus")
        self.signals.append((member, body))


async def test_new_messages_are_told_while_somebody_wants_them(ring: Ring) -> None:
    sink, shown = Sink(), DebugInterface(ring)
    assert isinstance(shown, Interface)
    shown.exported(PATH, sink)
    ours.info("before")
    shown.set_enabled(True)
    assert shown.enabled
    assert logging.getLogger(STANZAS).isEnabledFor(logging.DEBUG)
    # Also from other threads: things are computed there.
    await asyncio.to_thread(ours.info, "while")
    await asyncio.sleep(0)
    shown.set_enabled(False)
    assert not shown.enabled
    ours.info("after")
    await asyncio.sleep(0)
    assert [(member, body[1:]) for member, body in sink.signals] == [
        ("NewDebugMessage", ["e2e", INFO, "while"])
    ]
    assert [each[3] for each in shown.get_messages()] == ["before", "while", "after"]
