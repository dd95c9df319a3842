"""``tpe2e trust``: what the trust handler remembers. Works beside it, and without it or a bus."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from datetime import datetime
from itertools import groupby, zip_longest
from typing import Final, TypeVar

from telepathy_e2e.cli.exits import FAILED, OK, Exit, UsageError
from telepathy_e2e.cli.output import Output
from telepathy_e2e.cli.views import same_account
from telepathy_e2e.cli.words import METHODS, fingerprint_lines, parse_fingerprint, printable
from telepathy_e2e.handler.book import MAX_BYTES, AlarmEntry, Book, BookDamaged, BookFull
from telepathy_e2e.handler.pins import LEAP_OF_FAITH, NO_IDENTITY, Alarm, Pin
from telepathy_e2e.handler.store import Store, StoreError, directory

T = TypeVar("T")

ALARM_STYLE: Final = "bold red"

# What happened, and what to do about it.
ALARMS: Final = {
    Alarm.CHANGED_KEY: "{contact} presents a key that nobody has verified, though another one of "
    "theirs is verified. It is a new device, or one for which a verified device's word is missing "
    "or does not hold, or somebody is in between: compare with 'tpe2e verify {contact}' while the "
    "session waits, or have them vouch for it again ('tpe2e identity vouch' on the verified "
    "device).",
    Alarm.DOWNGRADE: "{contact} had a key, and then offered no encryption. It was rejected. Ask "
    "them by another road: if their program really has none any more, 'tpe2e trust forget "
    "{contact}' lets it through; if not, somebody takes it out on the way.",
    Alarm.REJECTED_KEY: "A key that was rejected as not that of {contact} is there again. Was that "
    "a mistake, compare with 'tpe2e verify {contact}' while the session waits; else somebody is "
    "still in between.",
}

_WORDS: Final = {
    **METHODS,
    "cross-signature": "a verified device of the same contact",
}


async def run(arguments: argparse.Namespace, output: Output) -> int:
    """The command; returns the exit code."""
    store = Store(directory(os.environ))
    try:
        match arguments.action:
            case "list":
                _list(store, arguments.account, output)
            case "show":
                _show(store, arguments, output)
            case "forget":
                await _forget(store, arguments, output)
            case "export":
                _export(store, arguments, output)
            case _:
                _import(store, arguments, output)
    except StoreError as error:
        raise Exit(FAILED, f"{error}") from error
    return OK


def alarm_line(account: str | None, output: Output) -> None:
    """One line about alarms that nobody has looked at, and none if there are none."""
    try:
        alarms = _alarms(Store(directory(os.environ)).read(), account)
    except StoreError:
        output.say(
            "alarms",
            "ALARM: what was remembered of your contacts' keys cannot be read; 'tpe2e trust list' "
            "says why.",
            style=ALARM_STYLE,
            count=None,
        )
        return
    if alarms:
        noun = "alarm" if len(alarms) == 1 else "alarms"
        output.say(
            "alarms",
            f"ALARM: {len(alarms)} {noun} about your contacts' keys: see 'tpe2e trust list'.",
            style=ALARM_STYLE,
            count=len(alarms),
        )


# -- looking ------------------------------------------------------------------------------------


def _alarms(book: Book, account: str | None, contact: str | None = None) -> list[AlarmEntry]:
    return [
        each
        for each in book.alarms
        if (account is None or same_account(each.account, account))
        and (contact is None or same_account(each.contact, contact))
    ]


def _pins(book: Book, account: str | None, contact: str | None = None) -> list[Pin]:
    """In the order in which people look for them."""
    found = [
        each
        for each in book
        if (account is None or same_account(each.account, account))
        and (contact is None or same_account(each.contact, contact))
    ]
    return sorted(found, key=lambda pin: (pin.account, pin.contact, pin.since, pin.fingerprint))


def _list(store: Store, account: str | None, output: Output) -> None:
    book = store.read()
    alarms, pins = _alarms(book, account), _pins(book, account)
    for alarm in alarms:
        _say_alarm(alarm, output)
    if alarms:
        output.show("'tpe2e trust show JID' shows what is known, and settles the alarm.\n")
    _say_pins(pins, output)
    if not pins and not alarms:
        output.say("nothing", "No keys are remembered yet.")


def _show(store: Store, arguments: argparse.Namespace, output: Output) -> None:
    book = store.read()
    alarms = _alarms(book, arguments.account, arguments.jid)
    pins = _pins(book, arguments.account, arguments.jid)
    if not pins and not alarms:
        raise UsageError(_unknown(arguments))
    for alarm in alarms:
        _say_alarm(alarm, output)
    _say_pins(pins, output)
    if not alarms:
        return

    def settle(changed: Book) -> int:
        # One that came again since then was not shown as it is now: it stays.
        return sum([changed.acknowledge(alarm) for alarm in alarms])

    count = _update(store, settle)
    noun = "The alarm is" if count == 1 else f"{count} alarms are"
    output.say("acknowledged", f"{noun} settled: you have seen it.", count=count)


def _say_alarm(alarm: AlarmEntry, output: Output) -> None:
    what = ALARMS.get(alarm.kind, "{contact}: " + alarm.kind)
    often = f"{alarm.count} times, first {_when(alarm.first)}, last" if alarm.count > 1 else "on"
    output.say(
        "alarm",
        f"ALARM ({often} {_when(alarm.last)}): {what.format(contact=printable(alarm.contact))}",
        style=ALARM_STYLE,
        account=alarm.account,
        contact=alarm.contact,
        kind=str(alarm.kind),
        fingerprint=alarm.fingerprint,
        first=alarm.first.isoformat(),
        last=alarm.last.isoformat(),
        count=alarm.count,
    )
    for line in fingerprint_lines(alarm.fingerprint) if alarm.fingerprint else ():
        output.show(f"    {line}")


def _when(moment: datetime) -> str:
    return moment.astimezone().strftime("%Y-%m-%d %H:%M")


def _say_pins(pins: Sequence[Pin], output: Output) -> None:
    for (account, contact), group in groupby(pins, lambda pin: (pin.account, pin.contact)):
        keys = list(group)
        verified = any(pin.verified for pin in keys)
        shown = "verified: another key is an alarm" if verified else "never verified"
        output.show(f"{printable(contact)} (with {printable(account)}), {shown}")
        for pin in keys:
            output.show(_key_text(pin))
        output.say(
            "contact-keys",
            "",
            account=account,
            contact=contact,
            verified=verified,
            keys=[
                {
                    "fingerprint": pin.fingerprint,
                    "verified": pin.verified,
                    "methods": list(pin.methods),
                    "since": pin.since.isoformat(),
                    "seen": pin.seen.isoformat(),
                }
                for pin in keys
            ],
        )


def _key_text(pin: Pin) -> str:
    """The fingerprint on the left, what is known of it on the right."""
    known = [f"since {pin.since}", f"last seen {pin.seen}"]
    if pin.fingerprint == NO_IDENTITY:
        return f"  keys for single sessions only; {', '.join(known)}"
    if pin.rejected:
        said = "REJECTED"
    elif pin.verified:
        ways = [_WORDS.get(each, each) for each in pin.methods if each != LEAP_OF_FAITH]
        said = "verified by " + " and ".join(ways)
    else:
        said = "not verified"
    lines = zip_longest(fingerprint_lines(pin.fingerprint), (said, *known), fillvalue="")
    return "\n".join(f"  {left}   {right}".rstrip() for left, right in lines)


# -- changing -----------------------------------------------------------------------------------


def _update(store: Store, change: Callable[[Book], T]) -> T:
    try:
        return store.update(change)
    except BookFull as error:
        raise Exit(FAILED, f"{error}. Nothing was changed.") from error


async def _forget(store: Store, arguments: argparse.Namespace, output: Output) -> None:
    pins = _pins(store.read(), arguments.account, arguments.jid)
    if not pins:
        raise UsageError(_unknown(arguments))
    contact = printable(arguments.jid)
    if arguments.fingerprint is not None:
        wanted = _fingerprint(arguments.fingerprint)
        pins = [pin for pin in pins if pin.fingerprint == wanted]
        if not pins:
            raise UsageError(
                f"{contact} has no such key: 'tpe2e trust show {contact}' shows those there are."
            )
    noun = "1 key" if len(pins) == 1 else f"{len(pins)} keys"
    for pin in pins:
        output.show(_key_text(pin))
    question = f"Forget {noun} of {contact}? Nothing will tell you any more that it has changed."
    if not arguments.yes and await output.ask(question, {"y": "", "n": ""}, "n") != "y":
        raise UsageError("Nothing was forgotten.")
    identifiers = {(pin.account, pin.contact, pin.fingerprint) for pin in pins}

    def forget(book: Book) -> int:
        # Those that were shown: what the handler has learnt meanwhile nobody has agreed to lose.
        found = [pin for pin in book if (pin.account, pin.contact, pin.fingerprint) in identifiers]
        for pin in found:
            book.forget(pin)
        return len(found)

    count = _update(store, forget)
    output.say("forgotten", "Forgotten.", contact=arguments.jid, count=count)


def _export(store: Store, arguments: argparse.Namespace, output: Output) -> None:
    to_stdout = arguments.file == "-"
    if to_stdout and arguments.json:
        raise UsageError("--json and a FILE of - both want the standard output: name a file.")
    # Alarms are about this device and stay here.
    pins = _pins(store.read(), arguments.account)
    data = Book(pins).to_bytes()
    if to_stdout:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
        return
    try:
        # Never over a file that is there: it may be the only backup.
        descriptor = os.open(arguments.file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        except OSError:
            os.unlink(arguments.file)
            raise
    except OSError as error:
        raise UsageError(
            f"{printable(arguments.file)} cannot be written ({error.strerror})."
        ) from error
    noun = "1 key is" if len(pins) == 1 else f"{len(pins)} keys are"
    output.say(
        "exported",
        f"{noun} in {printable(arguments.file)}. It is not secret, but whoever can change it "
        "decides whom you believe.",
        file=arguments.file,
        count=len(pins),
    )


def _import(store: Store, arguments: argparse.Namespace, output: Output) -> None:
    name = printable(arguments.file)
    try:
        if arguments.file == "-":
            data = sys.stdin.buffer.read(MAX_BYTES + 1)
        else:
            with open(arguments.file, "rb") as file:
                data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise UsageError(f"{name} cannot be read ({error.strerror}).") from error
    try:
        given = Book.from_bytes(data)
    except BookDamaged as error:
        raise UsageError(
            f"{name} is damaged, or not what 'tpe2e trust export' writes ({error}): nothing was "
            "imported."
        ) from error
    pins = _pins(given, arguments.account)
    changed = _update(store, lambda book: book.merge(Book(pins)))
    output.say(
        "imported",
        f"{changed} of {len(pins)} keys were new or said more than what was here.",
        count=len(pins),
        changed=changed,
    )


def _fingerprint(text: str) -> str:
    try:
        digits = parse_fingerprint(text).upper()
    except ValueError:
        raise UsageError(
            f"{printable(text)} is no fingerprint: 64 hexadecimal digits, as 'tpe2e trust show' "
            "shows them (in quotes), or a verification URI."
        ) from None
    return ":".join(digits[i : i + 2] for i in range(0, 64, 2))


def _unknown(arguments: argparse.Namespace) -> str:
    whose = f" by {printable(arguments.account)}" if arguments.account is not None else ""
    return (
        f"Nothing is remembered of {printable(arguments.jid)}{whose}: 'tpe2e trust list' shows "
        "whose keys are."
    )
