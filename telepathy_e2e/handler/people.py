"""Asking and telling people by desktop notifications, where there are any.

Whatever is not answered here stays open for ``tpe2e verify`` and other clients; a desktop without
notifications loses nothing but the hint.
"""

from __future__ import annotations

import html
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from telepathy_e2e.cli.bus import BusError, Signal, typed
from telepathy_e2e.cli.exits import Exit
from telepathy_e2e.cli.words import printable
from telepathy_e2e.handler.pins import Alarm
from telepathy_e2e.handler.wire import HandlerBus

log = logging.getLogger(__name__)

NOTIFICATIONS: Final = "org.freedesktop.Notifications"
PATH: Final = "/org/freedesktop/Notifications"
APPLICATION: Final = "telepathy-e2e"

LOW, NORMAL, CRITICAL = 0, 1, 2

# How long a notice may stand, in milliseconds; what waits for somebody stands until he comes.
NOTICE_MILLISECONDS: Final = 10_000

# Signals about notifications whose number is not known yet; others' are among them.
MAX_EARLY: Final = 64

ALARMS: Final[Mapping[Alarm, tuple[str, str]]] = {
    Alarm.CHANGED_KEY: (
        "{contact} presents another key",
        "You have verified {contact}, and this key is not the one. Either it is a new device, or "
        "one whose word from a verified device was missing or did not hold, or somebody is in "
        "between. Nothing is sent until you have compared. A device of {contact} whose key you "
        "have compared can vouch for this one again: 'tpe2e identity vouch' there.",
    ),
    Alarm.DOWNGRADE: (
        "{contact} suddenly offers no encryption",
        "There was a key before, so somebody may have taken the protection out on the way. It was "
        "rejected; nothing was sent.",
    ),
    Alarm.REJECTED_KEY: (
        "A key that was rejected is there again",
        "Somebody said before that this is not {contact}. Nothing is sent until you have compared.",
    ),
    Alarm.DAMAGED: (
        "What was remembered of your contacts' keys cannot be read",
        "Nothing is accepted without asking. 'tpe2e trust list' says what is wrong.",
    ),
}


@dataclass
class _Shown:
    """A notification that stands: what its actions do, and who may say that one was chosen."""

    key: str
    owner: str
    actions: Mapping[str, Callable[[], None]]


class People:
    """See the module. ``key`` names what a notification is about; a new one replaces the old."""

    def __init__(self, bus: HandlerBus) -> None:
        self._bus = bus
        self._shown: dict[int, _Shown] = {}
        # How many are being shown, and what came meanwhile: a button can be pressed before we
        # know the notification's number and whose it is.
        self._showing = 0
        self._early: list[tuple[str, Signal]] = []

    async def show(
        self,
        key: str,
        title: str,
        text: str,
        *,
        urgency: int = NORMAL,
        actions: Mapping[str, tuple[str, Callable[[], None]]] | None = None,
    ) -> bool:
        """Show this; False where nothing can be shown.

        Args:
            title, text: plain; names of contacts in them must be ``printable`` already.
            actions: by their key, what stands on the button and what it does.
        """
        actions = actions or {}
        old = next((number for number, shown in self._shown.items() if shown.key == key), 0)
        flat = [word for name, (label, _) in actions.items() for word in (name, label)]
        hints = {"urgency": typed("y", urgency), "category": typed("s", "im")}
        timeout = NOTICE_MILLISECONDS if urgency == LOW else 0
        # The body may be markup (notification specification, section 4), the title never is.
        body = html.escape(text, quote=False)
        self._showing += 1
        try:
            (number,) = await self._bus.call(
                *(NOTIFICATIONS, PATH, NOTIFICATIONS, "Notify", "susssasa{sv}i"),
                *(APPLICATION, old, "dialog-password", title, body, flat, hints, timeout),
            )
            owner = await self._bus.owner(NOTIFICATIONS)
        except Exit as error:
            log.info("nothing shows notifications here: %s", error)
            return False
        finally:
            self._showing -= 1
            early, self._early = self._early, []
        self._shown.pop(old, None)
        self._shown[number] = _Shown(key, owner, {n: does for n, (_, does) in actions.items()})
        for sender, signal in early:
            self.signal(sender, signal)
        return True

    async def withdraw(self, key: str) -> None:
        """What a notification asked is no longer asked."""
        for number, shown in list(self._shown.items()):
            if shown.key == key:
                del self._shown[number]
                try:
                    await self._bus.call(
                        NOTIFICATIONS, PATH, NOTIFICATIONS, "CloseNotification", "u", number
                    )
                except BusError as error:
                    log.debug("a notification was gone already: %s", error)

    async def alarm(self, kind: Alarm, account: str, contact: str) -> None:
        """Tell what must not be missed."""
        title, text = (each.format(contact=printable(contact, 100)) for each in ALARMS[kind])
        await self.show(f"alarm {kind} {account} {contact}", title, text, urgency=CRITICAL)

    def signal(self, sender: str, signal: Signal) -> None:
        """ActionInvoked and NotificationClosed, from whoever shows ours; from others nothing."""
        if signal.interface != NOTIFICATIONS or not signal.args:
            return
        shown = self._shown.get(signal.args[0])
        if shown is None and self._showing and len(self._early) < MAX_EARLY:
            self._early.append((sender, signal))
        if shown is None or shown.owner != sender:
            return
        if signal.member == "NotificationClosed":
            del self._shown[signal.args[0]]
        elif signal.member == "ActionInvoked" and signal.args[1] in shown.actions:
            shown.actions[signal.args[1]]()
