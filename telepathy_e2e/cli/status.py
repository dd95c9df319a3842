"""``tpe2e status``: who is logged in, who can be reached, and how each channel is protected."""

from __future__ import annotations

import argparse
from typing import Any

from telepathy_e2e.cli import names
from telepathy_e2e.cli.bus import Bus, BusError
from telepathy_e2e.cli.exits import OK, NotConnected
from telepathy_e2e.cli.output import Output
from telepathy_e2e.cli.trust import alarm_line
from telepathy_e2e.cli.tubes import service_of, state_of
from telepathy_e2e.cli.views import ChannelView, ConnectionView, connections, same_account
from telepathy_e2e.cli.words import Protection, fingerprint_lines, printable, size_text

# Who has more contacts than this needs a contact list.
MAX_HANDLE = 513

STYLES = {"none": "bold red", "encrypted": "yellow", "verified": "bold green"}


async def run(arguments: argparse.Namespace, output: Output) -> int:
    """The command; returns the exit code."""
    # Before anything that can fail: whoever looks must not miss it.
    alarm_line(arguments.account, output)
    bus = await Bus.connect()
    try:
        found = await connections(bus)
        if arguments.account is not None:
            found = [c for c in found if same_account(c.account, arguments.account)]
            if not found:
                raise NotConnected(f"{arguments.account} is not logged in.")
        if not found:
            output.say("nothing", "Nobody is logged in.")
        for connection in found:
            await _connection(connection, output)
        return OK
    finally:
        await bus.close()


async def _connection(connection: ConnectionView, output: Output) -> None:
    state = names.CONNECTION_STATUS.get(connection.status, "unknown")
    account = printable(connection.account)
    output.say(
        "connection",
        f"{account}: {state}",
        style="bold",
        account=connection.account,
        status=state,
        connection=connection.name,
        path=connection.path,
    )
    for identifier, attributes in sorted(await _contacts(connection), key=lambda c: c[0]):
        _contact(connection, identifier, attributes, output)
    for channel in sorted(connection.channels.values(), key=lambda c: c.path):
        await channel.fill()
        _channel(channel, output)


async def _contacts(connection: ConnectionView) -> list[tuple[str, dict[str, Any]]]:
    wanted = [names.SIMPLE_PRESENCE, names.CONTACT_CAPABILITIES]
    if connection.status != names.CONNECTED:
        return []
    try:
        (by_handle,) = await connection.call(
            names.CONTACT_LIST, "GetContactListAttributes", "asb", wanted, False
        )
    except BusError:
        # No contact list (yet). Handles are numbers from 1 up, and the daemon leaves those out
        # that it does not know: what is left is who has been seen so far.
        handles = [n for n in range(1, MAX_HANDLE) if n != connection.values.get("SelfHandle")]
        try:
            (by_handle,) = await connection.call(
                names.CONTACTS, "GetContactAttributes", "auasb", handles, wanted, False
            )
        except BusError:
            return []
    return [
        (str(attributes.get(names.CONNECTION + "/contact-id", handle)), attributes)
        for handle, attributes in by_handle.items()
    ]


def _contact(
    connection: ConnectionView, identifier: str, attributes: dict[str, Any], output: Output
) -> None:
    _, status, message = attributes.get(names.SIMPLE_PRESENCE + "/presence", (0, "unknown", ""))
    classes = attributes.get(names.CONTACT_CAPABILITIES + "/capabilities", ())
    types = {fixed.get(names.CHANNEL + ".ChannelType") for fixed, _ in classes}
    takes_files = names.FILE_TRANSFER in types
    takes_calls = names.CALL in types
    takes_tubes = names.STREAM_TUBE in types
    said = f' "{printable(message)}"' if message else ""
    output.say(
        "contact",
        f"  {printable(identifier)}: {printable(status, 40)}{said}"
        f"{', takes files' if takes_files else ''}{', takes calls' if takes_calls else ''}"
        f"{', takes tubes' if takes_tubes else ''}",
        account=connection.account,
        contact=identifier,
        presence=status,
        presence_message=message,
        file_transfer=takes_files,
        calls=takes_calls,
        tubes=takes_tubes,
    )


def _channel(channel: ChannelView, output: Output) -> None:
    if channel.type == names.FILE_TRANSFER:
        _transfer(channel, output)
    elif channel.type == names.CALL:
        _call(channel, output)
    elif channel.type in (names.STREAM_TUBE, names.DBUS_TUBE):
        _tube(channel, output)
    elif channel.type == names.PEER_VERIFICATION:
        payload = str(channel.get(names.PEER_VERIFICATION, "PayloadChannel", ""))
        output.say(
            "question-open",
            f"  question: is it really {printable(channel.target)}? "
            f"Answer it with 'tpe2e verify {payload}'.",
            style="bold",
            channel=channel.path,
            payload=payload,
            contact=channel.target,
            state=channel.state,
            reason=channel.get(names.PEER_VERIFICATION, "Reason"),
        )
    else:
        output.say(
            "channel",
            f"  {printable(channel.type.rpartition('.')[2], 40)} with {printable(channel.target)}",
            channel=channel.path,
            type=channel.type,
            contact=channel.target,
        )


def _call(channel: ChannelView, output: Output) -> None:
    protection = Protection(channel)
    state = channel.get(names.CALL, "CallState", 0)
    shown = names.CALL_STATE.get(state, "unknown")
    output.say(
        "channel",
        f"  call {'to' if channel.requested else 'from'} {printable(channel.target)}: {shown}"
        f"{'; ' + protection.sentence if protection.encrypted else ''}",
        style=STYLES[protection.level] if protection.encrypted else "",
        channel=channel.path,
        type=channel.type,
        contact=channel.target,
        direction="outgoing" if channel.requested else "incoming",
        state=shown,
        **protection.fields(),
    )
    _fingerprints(channel, protection, output)


def _tube(channel: ChannelView, output: Output) -> None:
    protection = Protection(channel)
    shown = names.TUBE_STATE.get(state_of(channel), "unknown")
    service = service_of(channel)
    output.say(
        "channel",
        f"  {printable(service)} {'offered to' if channel.requested else 'of'} "
        f"{printable(channel.target)}: {shown}"
        f"{'; ' + protection.sentence if protection.encrypted else ''}",
        style=STYLES[protection.level] if protection.encrypted else "",
        channel=channel.path,
        type=channel.type,
        contact=channel.target,
        service=service,
        direction="outgoing" if channel.requested else "incoming",
        state=shown,
        **protection.fields(),
    )
    _fingerprints(channel, protection, output)


def _transfer(channel: ChannelView, output: Output) -> None:
    protection = Protection(channel)
    size = int(channel.get(names.FILE_TRANSFER, "Size") or 0)
    moved = int(channel.get(names.FILE_TRANSFER, "TransferredBytes") or 0)
    name = str(channel.get(names.FILE_TRANSFER, "Filename", ""))
    state = names.TRANSFER_STATE.get(channel.state, "unknown")
    arrow = "to" if channel.requested else "from"
    # Before the channel is open it is not yet decided how it will be protected.
    settled = channel.state in (names.OPEN, names.COMPLETED) or protection.encrypted
    output.say(
        "transfer",
        f"  {printable(name)} {arrow} {printable(channel.target)}: {state}, "
        f"{size_text(moved)} of {size_text(size)}"
        f"{'; ' + protection.sentence if settled else ''}",
        style=STYLES[protection.level] if settled else "",
        channel=channel.path,
        contact=channel.target,
        direction="outgoing" if channel.requested else "incoming",
        file=name,
        state=state,
        bytes=moved,
        size=None if size == names.UNKNOWN_SIZE else size,
        **protection.fields(),
    )
    _fingerprints(channel, protection, output)


def _fingerprints(channel: ChannelView, protection: Protection, output: Output) -> None:
    for owner, fingerprints in (
        (printable(channel.target), protection.peer_fingerprints),
        ("you", protection.own_fingerprints),
    ):
        if "sha-256" in fingerprints:
            output.show(f"    fingerprint of {owner}:")
            for line in fingerprint_lines(fingerprints["sha-256"]):
                output.show(f"      {line}")
