"""Which of a contact's programs a session is offered to."""

from __future__ import annotations

from typing import cast

import pytest

from telepathy_e2e.errors import NotCapable, Offline
from telepathy_e2e.service.peers import check_reachable, find_peer
from telepathy_e2e.xmpp.client import Client, Resource

ALICE, BOB = "alice@example.org", "bob@example.org"


class Fake:
    """A client of Alice's that sees these programs."""

    jid = ALICE + "/here"

    def __init__(self, *online: str) -> None:
        self.online = [resource(jid) for jid in online]

    def resources(self, bare_jid: str) -> list[Resource]:
        return [each for each in self.online if each.jid.startswith(bare_jid + "/")]


def resource(jid: str) -> Resource:
    return Resource(jid, features=frozenset({"tube"}))


def takes(each: Resource) -> bool:
    return "tube" in (each.features or ())


@pytest.mark.parametrize(
    ("target", "sentence"), [(BOB, "not online"), (ALICE, "no other program of it is online")]
)
async def test_nobody_is_offered_what_nobody_else_is_there_for(target: str, sentence: str) -> None:
    client = cast(Client, Fake(Fake.jid))
    with pytest.raises(Offline, match=sentence):
        check_reachable(client, target, takes, "tubes")
    with pytest.raises(Offline, match=sentence):
        await find_peer(client, target, takes, "tubes")


async def test_ones_own_other_program_is_a_contacts_like_any() -> None:
    client = cast(Client, Fake(Fake.jid, ALICE + "/there"))
    check_reachable(client, ALICE, takes, "tubes")
    assert (await find_peer(client, ALICE, takes, "tubes")).jid == ALICE + "/there"


async def test_who_takes_none_is_told_from_who_is_not_there() -> None:
    client = cast(Client, Fake(BOB + "/there"))
    with pytest.raises(NotCapable):
        await find_peer(client, BOB, lambda _: False, "tubes")
