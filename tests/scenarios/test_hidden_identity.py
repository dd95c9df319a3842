"""Who answers shows his identity after the other's was accepted, if he wants that."""

from __future__ import annotations

import secrets
from xml.etree.ElementTree import Element

import pytest
from dbus_fast import Variant

from tests.hostile.attacks import INITIATOR, RESPONDER, AlterSealed, OnSealed
from tests.hostile.server import Together
from tests.hostile.stage import Stage, assert_completed, assert_found_out
from tests.support.prosody import available
from tests.support.side import CONNECTION

pytest_plugins = ["tests.hostile.fixtures"]
pytestmark = [
    pytest.mark.skipif(not available(), reason="prosody is not installed"),
    pytest.mark.asyncio(loop_scope="module"),
]

DATA = secrets.token_bytes(50_000)
IDENTITIES = CONNECTION + ".Interface.Identities1"
HIDES = {"e2e_hide_identity": Variant("b", True)}
# Both: with the one who begins nothing changes, or they would wait for one another.
STAGE = {"alice": HIDES, "bob": HIDES}


class Heard(OnSealed):
    """Everything arrives; who said something sealed is noted, in order."""

    def __init__(self) -> None:
        super().__init__("", 0)
        self.said: list[str] = []

    def stanza(self, element: Element) -> list[Element]:
        for role in (INITIATOR, RESPONDER):
            self.role = role
            super().stanza(element)
        return [element]

    def sealed(self, element: Element, number: int) -> list[Element]:
        self.said.append(self.role)
        return [element]


async def test_who_answers_speaks_last(stage: Stage) -> None:
    heard = Heard()
    await stage.server.use(heard)
    assert_completed(await stage.transfer(DATA), DATA, encrypted=True)
    assert heard.said[:2] == [INITIATOR, RESPONDER]


async def test_whoever_cannot_show_an_identity_is_shown_none(stage: Stage) -> None:
    """As of somebody in the middle, who begins in Alice's name and has no hello of hers."""
    heard = Heard()
    await stage.server.use(Together(heard, AlterSealed(INITIATOR, 0)))
    assert_found_out(await stage.transfer(DATA))
    assert heard.said == [INITIATOR]


async def test_nor_does_the_server_know_it(stage: Stage) -> None:
    alice, bob = stage.pair.alice, stage.pair.server.jid("bob")
    (handle,) = await alice.cm(alice.connection, CONNECTION, "RequestHandles", "uas", 1, [bob])
    assert await alice.cm(alice.connection, IDENTITIES, "GetIdentities", "u", handle) == []
