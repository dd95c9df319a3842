"""Identities whose keys are in another process: the key agent, asked over D-Bus."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final, Protocol

from telepathy_e2e.errors import (
    TP_ERROR,
    InvalidArgument,
    NotAvailable,
    PermissionDenied,
    RemoteError,
    SecurityError,
    TelepathyError,
)
from telepathy_e2e.trust.agent_names import BUS_NAME, INTERFACE, PATH

log = logging.getLogger(__name__)

# What the bus says when there is nobody of that name and nobody can be started.
_ABSENT: Final = frozenset(
    f"org.freedesktop.DBus.Error.{each}"
    for each in ("ServiceUnknown", "NameHasNoOwner", "FileNotFound", "Spawn.ServiceNotFound")
)

# The agent's own answers, which say what to do.
_SAID: Final[dict[str, type[TelepathyError]]] = {
    TP_ERROR + "InvalidArgument": InvalidArgument,
    TP_ERROR + "NotAvailable": NotAvailable,
    TP_ERROR + "PermissionDenied": PermissionDenied,
}


class Caller(Protocol):
    """Who calls methods over D-Bus."""

    async def call(
        self,
        destination: str,
        path: str,
        interface: str,
        member: str,
        signature: str = "",
        body: Sequence[object] = (),
    ) -> list[Any]:
        """The reply's body.

        Raises:
            RemoteError: there is none.
        """
        ...


class AgentIdentities:
    """``trust.identities.Identities`` by the key agent.

    There is no other way if it fails: a key that was made here instead would be an alarm for every
    contact, and no protection would be what an attacker on this machine wants.
    """

    def __init__(self, bus: Caller) -> None:
        self._bus = bus

    async def identity(self, account: str) -> bytes:
        """See ``Identities``."""
        (certificate,) = await self._ask("GetIdentity", "s", account)
        return bytes(certificate)

    async def certify(self, account: str, public_key: bytes, wall: datetime) -> tuple[bytes, bytes]:
        """See ``Identities``."""
        (certificates,) = await self._ask("Certify", "say", account, public_key)
        if len(certificates) != 2:
            raise NotAvailable("The key agent answered something else than two certificates")
        leaf, identity = (bytes(each) for each in certificates)
        _check(account, public_key, leaf, identity, wall)
        return leaf, identity

    async def _ask(self, member: str, signature: str, *arguments: object) -> tuple[Any]:
        try:
            reply = await self._bus.call(BUS_NAME, PATH, INTERFACE, member, signature, arguments)
        except RemoteError as error:
            raise _explained(error) from error
        if len(reply) != 1:
            raise NotAvailable(f"The key agent answered {member} in a way that makes no sense")
        return (reply[0],)


def _check(account: str, public_key: bytes, leaf: bytes, identity: bytes, wall: datetime) -> None:
    """That contacts would take them: or the first to notice that something is wrong were they."""
    from telepathy_e2e.xtls.certificates import parse  # late: cryptography is slow to import
    from telepathy_e2e.xtls.identity import check_identity

    try:
        check_identity(identity, leaf, account, wall)
        fits = parse(leaf).spki == public_key
    except SecurityError as error:
        raise NotAvailable(f"The key agent's certificates cannot be used: {error}") from error
    if not fits:
        raise NotAvailable("The key agent certified another key than it was given")


def _explained(error: RemoteError) -> TelepathyError:
    """What the user is told."""
    log.warning("the key agent: %s", error.name)
    said = _SAID.get(error.name)
    if said is not None:
        return said(str(error))
    if error.name in _ABSENT:
        return NotAvailable(
            "The key agent is not installed, so nothing can be protected: install"
            f" telepathy-e2e-agent with its activation file {BUS_NAME}.service"
        )
    if error.name.startswith("org.freedesktop.DBus.Error.Spawn."):
        return NotAvailable("The key agent could not be started; the session bus's log says why")
    return NotAvailable("The key agent went away before it answered; try again")
