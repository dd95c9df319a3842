"""Everything that is remembered, with its bounds, and as bytes. Pure: no files here."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import date, datetime
from typing import Any, Final

from telepathy_e2e.errors import E2EError
from telepathy_e2e.handler.pins import (
    LEAP_OF_FAITH,
    METHODS,
    NO_IDENTITY,
    Alarm,
    Pin,
    is_fingerprint,
)

# A person's devices, and those he had before. A contact can make a key for each session, so the
# oldest that nobody verified go first.
MAX_KEYS = 32

# All contacts of all accounts: a hundred times what people have. Some 6 MB as a file.
MAX_PINS = 20_000

# One for each contact and kind; more at once than anybody can look at.
MAX_ALARMS = 1_000

# A bare JID in characters (RFC 7622: 1,023 bytes a part).
MAX_JID = 2_047

# Twice what the bounds above can fill with names as they are.
MAX_BYTES = 16 * 1024 * 1024

_FULL: Final = "There is no room for another key: tpe2e trust forget makes some"

_MAGIC: Final = b"telepathy-e2e pins 1 sha256 "
_DIGEST: Final = 64


class BookDamaged(E2EError):
    """These bytes are not what was written; nothing of them is believed."""


class BookFull(E2EError):
    """Nothing that could be forgotten makes room for a new key."""


@dataclass(frozen=True)
class AlarmEntry:
    """An alarm that nobody has acknowledged yet.

    Args:
        first, last: when, aware, to the second.
        count: how often.
    """

    account: str
    contact: str
    kind: Alarm
    fingerprint: str
    first: datetime
    last: datetime
    count: int = 1


class Book:
    """Pins and alarms."""

    def __init__(self, pins: Sequence[Pin] = (), alarms: Sequence[AlarmEntry] = ()) -> None:
        self._pins: dict[tuple[str, str], dict[str, Pin]] = {}
        self._alarms: dict[tuple[str, str, Alarm], AlarmEntry] = {}
        # Counted along: merging two large ones asks for it with each key.
        self._count = 0
        for pin in pins:
            self._set(pin)
        for alarm in alarms:
            self._alarms[alarm.account, alarm.contact, alarm.kind] = alarm

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Book) and self.to_bytes() == other.to_bytes()

    __hash__ = None  # type: ignore[assignment]

    # -- pins -------------------------------------------------------------------------------

    def pins(self, account: str, contact: str) -> list[Pin]:
        """All keys of one contact."""
        return list(self._pins.get((account, contact), {}).values())

    def __iter__(self) -> Iterator[Pin]:
        for keys in self._pins.values():
            yield from keys.values()

    def __len__(self) -> int:
        return self._count

    def _set(self, pin: Pin) -> None:
        keys = self._pins.setdefault((pin.account, pin.contact), {})
        self._count += pin.fingerprint not in keys
        keys[pin.fingerprint] = pin

    def put(self, pin: Pin) -> None:
        """Remember, in place of what was known of the same key.

        Raises:
            BookFull: see there.
        """
        keys = self._pins.get((pin.account, pin.contact), {})
        if pin.fingerprint not in keys:
            if len(keys) >= MAX_KEYS:
                self._make_room(list(keys.values()))
            elif len(self) >= MAX_PINS:
                self._make_room(list(self))
        self._set(pin)

    def _make_room(self, among: Sequence[Pin]) -> None:
        # Verified and rejected ones are what people have said; those are never lost to a flood.
        loose = [pin for pin in among if pin.methods == (LEAP_OF_FAITH,)]
        if not loose:
            raise BookFull(_FULL)

        def worth(pin: Pin) -> tuple[bool, date]:
            # A contact's last one is what tells a downgrade: it goes after all others.
            return len(self._pins[pin.account, pin.contact]) == 1, pin.seen

        self.forget(min(loose, key=worth))

    def forget(self, pin: Pin) -> None:
        """Remember this one no longer."""
        keys = self._pins.get((pin.account, pin.contact), {})
        self._count -= keys.pop(pin.fingerprint, None) is not None
        if not keys:
            self._pins.pop((pin.account, pin.contact), None)

    def merge(self, other: Book) -> int:
        """Take the pins of another book in; the number of those that changed something.

        What somebody said no to stays rejected on both sides; verifications are added. Where there
        are too many in the end, leaps of faith go, the oldest first, whichever book had them.

        Raises:
            BookFull: see there; nothing has changed then.
        """
        before = self._pins
        merged: dict[tuple[str, str], dict[str, Pin]] = {
            contact: dict(keys) for contact, keys in before.items()
        }
        for pin in other:
            keys = merged.setdefault((pin.account, pin.contact), {})
            old = keys.get(pin.fingerprint)
            keys[pin.fingerprint] = pin if old is None else _merged(old, pin)
        # Room is made once, at the end: with each key it would take as many passes over all as
        # there are keys, minutes with two full books.
        _fit(merged)
        self._pins = merged
        self._count = sum(map(len, merged.values()))
        return sum(
            before.get((pin.account, pin.contact), {}).get(pin.fingerprint) != kept
            for pin in other
            if (kept := merged.get((pin.account, pin.contact), {}).get(pin.fingerprint))
        )

    # -- alarms -----------------------------------------------------------------------------

    @property
    def alarms(self) -> list[AlarmEntry]:
        """Those that nobody has acknowledged, the oldest first."""
        return sorted(self._alarms.values(), key=lambda alarm: alarm.first)

    def alarm(
        self, account: str, contact: str, kind: Alarm, fingerprint: str, now: datetime
    ) -> None:
        """Put an alarm on record; one that is there already counts on.

        Args:
            fingerprint: the key it is about, or empty.
            now: aware, to the second.
        """
        old = self._alarms.get((account, contact, kind))
        if old is None:
            while len(self._alarms) >= MAX_ALARMS:
                # The latest goes: it is the one that the person has seen as a notification last,
                # and a flood must not push out what came before it.
                latest = max(self._alarms.values(), key=lambda alarm: alarm.first)
                del self._alarms[latest.account, latest.contact, latest.kind]
            new = AlarmEntry(account, contact, kind, fingerprint, now, now)
        else:
            new = replace(old, fingerprint=fingerprint, last=now, count=old.count + 1)
        self._alarms[account, contact, kind] = new

    def acknowledge(self, alarm: AlarmEntry) -> bool:
        """Take one away, unless it is no longer as it was shown."""
        key = alarm.account, alarm.contact, alarm.kind
        if self._alarms.get(key) != alarm:
            return False
        del self._alarms[key]
        return True

    # -- bytes ------------------------------------------------------------------------------

    def to_bytes(self) -> bytes:
        """The file: a line with the SHA-256 of all that follows, then one JSON object a line.

        The digest is against disks, editors and half copies, not against those who may write to
        the user's files: they have won anyway.
        """
        lines = [json.dumps(asdict(each), default=str) for each in (*self, *self.alarms)]
        body = "".join(line + "\n" for line in lines).encode()
        return _MAGIC + hashlib.sha256(body).hexdigest().encode() + b"\n" + body

    @classmethod
    def from_bytes(cls, data: bytes) -> Book:
        """What ``to_bytes`` made.

        Raises:
            BookDamaged: it did not make this.
        """
        start = len(_MAGIC) + _DIGEST
        body = data[start + 1 :]
        head = _MAGIC + hashlib.sha256(body).hexdigest().encode() + b"\n"
        if len(data) > MAX_BYTES or not hmac.compare_digest(data[: start + 1], head):
            raise BookDamaged("The digest in the first line is not that of the rest")
        try:
            entries = [_entry(json.loads(line)) for line in body.splitlines()]
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise BookDamaged(f"A line is not one of ours ({type(error).__name__})") from None
        return cls(
            [each for each in entries if isinstance(each, Pin)],
            [each for each in entries if isinstance(each, AlarmEntry)],
        )


def _fit(contacts: dict[tuple[str, str], dict[str, Pin]]) -> None:
    """Forget leaps of faith until the bounds hold, as ``Book.put`` does with one.

    Raises:
        BookFull: without them there are too many still.
    """
    spare: list[Pin] = []
    last: list[Pin] = []
    for keys in contacts.values():
        loose = sorted(
            (pin for pin in keys.values() if pin.methods == (LEAP_OF_FAITH,)),
            key=lambda pin: pin.seen,
        )
        excess = max(0, len(keys) - MAX_KEYS)
        if excess > len(loose):
            raise BookFull(_FULL)
        for pin in loose[:excess]:
            del keys[pin.fingerprint]
        loose = loose[excess:]
        if loose and len(loose) == len(keys):
            # The only word of this contact, which tells a downgrade: after all others.
            last.append(loose.pop())
        spare += loose
    excess = max(0, sum(map(len, contacts.values())) - MAX_PINS)
    if excess > len(spare) + len(last):
        raise BookFull(_FULL)
    spare.sort(key=lambda pin: pin.seen)
    last.sort(key=lambda pin: pin.seen)
    for pin in (spare + last)[:excess]:
        keys = contacts[pin.account, pin.contact]
        del keys[pin.fingerprint]
        if not keys:
            del contacts[pin.account, pin.contact]


def _merged(one: Pin, other: Pin) -> Pin:
    methods = dict.fromkeys((*one.methods, *other.methods))
    if one.rejected or other.rejected:
        methods = dict.fromkeys(("rejected",))
    elif len(methods) > 1:
        methods.pop(LEAP_OF_FAITH, None)
    return replace(
        one,
        methods=tuple(methods),
        since=min(one.since, other.since),
        seen=max(one.seen, other.seen),
    )


def _entry(fields: dict[str, Any]) -> Pin | AlarmEntry:
    """One line.

    Raises:
        ValueError, TypeError, KeyError, AttributeError: not one of ours.
    """
    account, contact = _jid(fields.pop("account")), _jid(fields.pop("contact"))
    fingerprint = fields.pop("fingerprint")
    if fingerprint != NO_IDENTITY and not is_fingerprint(fingerprint):
        raise ValueError
    if "kind" in fields:
        first = _moment(fields.pop("first"))
        last = _moment(fields.pop("last"))
        kind, count = Alarm(fields.pop("kind")), fields.pop("count")
        if fields or type(count) is not int or count < 1:
            raise ValueError
        return AlarmEntry(account, contact, kind, fingerprint, first, last, count)
    methods = fields.pop("methods")
    since, seen = (date.fromisoformat(fields.pop(each)) for each in ("since", "seen"))
    if fields or not isinstance(methods, list) or not methods or not set(methods) <= METHODS:
        raise ValueError
    return Pin(account, contact, fingerprint, tuple(dict.fromkeys(methods)), since, seen)


def _jid(text: object) -> str:
    if not isinstance(text, str) or not 0 < len(text) <= MAX_JID:
        raise ValueError
    return text


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError
    return moment
