"""The key agent as the connection manager sees it: certificates that fit, or a clear error."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pytest

from telepathy_e2e.errors import (
    InvalidArgument,
    NotAvailable,
    PermissionDenied,
    RemoteError,
    TelepathyError,
)
from telepathy_e2e.trust.agent_identities import AgentIdentities
from telepathy_e2e.xtls.identity import PrivateKey, make_identity, make_leaf, new_session_key

WALL = datetime(2026, 3, 1, 12, tzinfo=UTC)
ALICE, BOB = "alice@example.org", "bob@example.org"
KEY, IDENTITY = make_identity(ALICE, WALL)
SESSION = new_session_key()


class Answers:
    """A bus on which the agent says this."""

    def __init__(self, answer: list[Any] | RemoteError) -> None:
        self.answer = answer
        self.asked: list[tuple[object, ...]] = []

    async def call(
        self,
        destination: str,
        path: str,
        interface: str,
        member: str,
        signature: str = "",
        body: Sequence[object] = (),
    ) -> list[Any]:
        self.asked.append((destination, path, interface, member, signature, *body))
        if isinstance(self.answer, RemoteError):
            raise self.answer
        return self.answer


def leaf(key: PrivateKey = SESSION, signer: PrivateKey = KEY, identity: bytes = IDENTITY) -> bytes:
    return make_leaf(key.public_key(), signer, identity, WALL)


async def test_it_asks_the_agent() -> None:
    bus = Answers([[leaf(), IDENTITY]])
    identities = AgentIdentities(bus)
    given = await identities.certify(ALICE, SESSION.public_key(), WALL)
    assert given == tuple(bus.answer[0]) if isinstance(bus.answer, list) else False
    name = "org.freedesktop.Telepathy.E2E.KeyAgent"
    path = "/org/freedesktop/Telepathy/E2E/KeyAgent"
    assert bus.asked == [(name, path, name + "1", "Certify", "say", ALICE, SESSION.public_key())]
    bus.answer = [IDENTITY]
    assert await identities.identity(ALICE) == IDENTITY
    assert bus.asked[-1] == (name, path, name + "1", "GetIdentity", "s", ALICE)


OTHER_KEY, OTHER_IDENTITY = make_identity(BOB, WALL)


@pytest.mark.parametrize(
    "answer",
    [
        [],
        [[]],
        [[leaf()]],
        [[leaf(), IDENTITY, IDENTITY]],
        [[b"", b""]],
        [[IDENTITY, leaf()]],
        [[leaf(new_session_key()), IDENTITY]],
        [[leaf(), OTHER_IDENTITY]],
        [[leaf(signer=OTHER_KEY, identity=OTHER_IDENTITY), OTHER_IDENTITY]],
    ],
)
async def test_certificates_that_do_not_fit_are_an_error(answer: list[Any]) -> None:
    with pytest.raises(NotAvailable):
        await AgentIdentities(Answers(answer)).certify(ALICE, SESSION.public_key(), WALL)


DBUS = "org.freedesktop.DBus.Error."
OURS = "org.freedesktop.Telepathy.Error."


@pytest.mark.parametrize(
    ("name", "error", "says"),
    [
        (OURS + "NotAvailable", NotAvailable, "its own words"),
        (OURS + "InvalidArgument", InvalidArgument, "its own words"),
        (OURS + "PermissionDenied", PermissionDenied, "its own words"),
        (DBUS + "ServiceUnknown", NotAvailable, "not installed"),
        (DBUS + "NameHasNoOwner", NotAvailable, "not installed"),
        (DBUS + "Spawn.ServiceNotFound", NotAvailable, "not installed"),
        (DBUS + "Spawn.ChildExited", NotAvailable, "could not be started"),
        (DBUS + "NoReply", NotAvailable, "try again"),
        (DBUS + "Disconnected", NotAvailable, "try again"),
        ("org.example.Whatever", NotAvailable, "try again"),
    ],
)
async def test_every_failure_says_what_to_do(
    name: str, error: type[TelepathyError], says: str
) -> None:
    identities = AgentIdentities(Answers(RemoteError(name, "its own words")))
    with pytest.raises(error, match=says):
        await identities.certify(ALICE, SESSION.public_key(), WALL)
    with pytest.raises(error, match=says):
        await identities.identity(ALICE)
