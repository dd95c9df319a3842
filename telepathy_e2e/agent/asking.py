"""Asking the person before an identity key signs a statement: by a desktop notification.

The agent asks by itself. A caller's word that somebody agreed is worth nothing: who calls may be a
connection manager that a stranger has taken over.
"""

from __future__ import annotations

import asyncio
import html
import logging
from typing import Any, Final

from telepathy_e2e.agent.attestations import Attestation
from telepathy_e2e.attest.statement import IDENTITY, read_vouching
from telepathy_e2e.bus.wire import Bus, Variant
from telepathy_e2e.errors import NotAvailable, PermissionDenied, RemoteError

log = logging.getLogger(__name__)

NOTIFICATIONS: Final = "org.freedesktop.Notifications"
PATH: Final = "/org/freedesktop/Notifications"

# Seconds for reading two fingerprints on two screens. Nothing is lost by asking again.
PATIENCE: Final = 120.0

_CRITICAL: Final = 2
_SIGN, _REFUSE = "sign", "refuse"

NO_WAY: Final = (
    "There is no way to ask you here, since nothing shows notifications with buttons, and without"
    " it no signature; a key that has a passphrase can be made to sign by typing that"
)


class Asking:
    """One question at a time; ``confirm`` is ``KeyAgent``'s.

    Args:
        patience: seconds until no answer is a no.
    """

    def __init__(self, bus: Bus, *, patience: float = PATIENCE) -> None:
        self._bus = bus
        self._patience = patience
        self._asking = False

    async def confirm(self, attestation: Attestation) -> bool:
        """Whether the person agreed to this very statement.

        Raises:
            PermissionDenied: nobody can be asked.
            NotAvailable: he is being asked about another one.
        """
        if self._asking:
            # A heap of them would be clicked away, and one of them agreed to.
            raise NotAvailable("You are being asked about another statement; answer that first")
        self._asking = True
        try:
            return await self._ask(attestation)
        except RemoteError as error:
            log.info("nothing shows notifications here: %s", error)
            raise PermissionDenied(NO_WAY) from error
        finally:
            self._asking = False

    async def _ask(self, attestation: Attestation) -> bool:
        (can,) = await self._bus.call(NOTIFICATIONS, PATH, NOTIFICATIONS, "GetCapabilities")
        if "actions" not in can:
            raise PermissionDenied(NO_WAY)
        owner = await self._bus.owner(NOTIFICATIONS)
        said: asyncio.Queue[tuple[str, list[Any]]] = asyncio.Queue()

        def heard(sender: str, member: str, body: list[Any]) -> None:
            # Anybody can send a signal; who shows the question is believed.
            if sender == owner and member in ("ActionInvoked", "NotificationClosed"):
                said.put_nowait((member, body))

        title, text = words(attestation)
        actions = [_SIGN, "Sign", _REFUSE, "Do not sign"]
        hints = {"urgency": Variant("y", _CRITICAL)}
        async with self._bus.listening(f"type='signal',interface='{NOTIFICATIONS}'", heard):
            # The body may be markup (notification specification, section 4), the title never is.
            body = html.escape(text, quote=False)
            (number,) = await self._bus.call(
                *(NOTIFICATIONS, PATH, NOTIFICATIONS, "Notify", "susssasa{sv}i"),
                ["telepathy-e2e", 0, "dialog-password", title, body, actions, hints, 0],
            )
            try:
                async with asyncio.timeout(self._patience):
                    while True:
                        member, arguments = await said.get()
                        if arguments[:1] == [number]:
                            return member == "ActionInvoked" and arguments[1:] == [_SIGN]
            except TimeoutError:
                log.info("nobody answered whether to sign")
                return False
            finally:
                await self._withdraw(number)

    async def _withdraw(self, number: int) -> None:
        try:
            await self._bus.call(
                NOTIFICATIONS, PATH, NOTIFICATIONS, "CloseNotification", "u", [number]
            )
        except RemoteError:
            log.debug("the question was gone already")


def words(attestation: Attestation) -> tuple[str, str]:
    """Title and text of the question, made of what is going to be signed and of nothing else."""
    account = "".join(c if c.isprintable() else "\ufffd" for c in attestation.account)[:100]
    if attestation.type == IDENTITY:
        vouched, _ = read_vouching(attestation.statement)
        return (
            f"Is this the key of another device of {account}?",
            f"{_groups(vouched)}\nAgree only if that device shows the same. Whoever has verified"
            " this device will take that one for yours, and ask nobody.",
        )
    return (
        f"Sign a statement in the name of {account}?",
        f"Its type is {attestation.type}, its SHA-256 {_groups(attestation.digest())}. Agree only"
        " if you know what that is.",
    )


def _groups(digest: bytes) -> str:
    pairs = digest.hex(" ").upper()
    return " · ".join(pairs[start : start + 23] for start in range(0, len(pairs), 24))
