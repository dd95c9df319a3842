"""``tpe2e connect`` and ``tpe2e disconnect``."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import getpass
import hashlib
import os
import sys
from pathlib import Path
from typing import Any, Final

from telepathy_e2e.cli import names
from telepathy_e2e.cli.bus import Bus, BusError, typed
from telepathy_e2e.cli.exits import NOT_CONNECTED, OK, Exit, NotConnected, UsageError
from telepathy_e2e.cli.output import Output
from telepathy_e2e.cli.secret import first_line
from telepathy_e2e.cli.together import first
from telepathy_e2e.cli.views import ChannelView, ConnectionView, connections, same_account
from telepathy_e2e.cli.words import fingerprint_lines, printable

TLS: Final = names.SERVER_TLS
CERTIFICATE: Final = names.TLS_CERTIFICATE

# TLS_Certificate_Reject_Reason Unknown.
REJECT_UNKNOWN: Final = 0


async def run(arguments: argparse.Namespace, output: Output) -> int:
    """``connect``; returns the exit code."""
    if "@" not in arguments.account:
        raise UsageError(f"{arguments.account} is not an account: it looks like alice@example.org.")
    password = read_password(arguments, output)
    bus = await Bus.connect()
    try:
        specs = await parameter_specs(bus)
        parameters = build_parameters(arguments, password, specs)
        name, path = await bus.call(
            names.CM_NAME,
            names.CM_PATH,
            names.CM,
            "RequestConnection",
            "sa{sv}",
            names.PROTOCOL,
            parameters,
        )
        connection = ConnectionView(bus, name, path)
        await connection.open()
        try:
            await _connect(connection, output, arguments.timeout)
        except BaseException:
            with contextlib.suppress(Exit):
                await connection.call(names.CONNECTION, "Disconnect")
            raise
        account = connection.account
        output.say(
            "connected",
            f"{printable(account)} is logged in, and stays so. "
            f"'tpe2e disconnect {printable(account.partition('/')[0])}' logs out.",
            style="bold green",
            account=account,
            connection=name,
            path=path,
        )
        output.show(name)
        return OK
    finally:
        await bus.close()


async def _connect(connection: ConnectionView, output: Output, seconds: float) -> None:
    # Contacts see that they can send files to us only if somebody says that he takes them. What
    # they offer while no 'tpe2e receive' runs waits for the next one.
    await connection.announce("", names.FILE_TRANSFER)
    output.say("connecting", "Logging in …")
    await connection.call(names.CONNECTION, "Connect")

    async def connected() -> None:
        await connection.wait(
            lambda: (
                connection.status == names.CONNECTED
                or connection.error is not None
                or (connection.status == names.DISCONNECTED and connection.status_reason != 0)
            )
        )

    try:
        async with asyncio.timeout(seconds):
            await first(connected(), _certificates(connection, output))
    except TimeoutError:
        raise NotConnected(
            f"No answer from the server within {seconds:.0f} seconds: check --server and --port."
        ) from None
    if connection.status != names.CONNECTED:
        raise _refused(connection)


# Error name to what it means, and what to do about it.
_REFUSALS: Final = {
    "AuthenticationFailed": (
        "The server does not accept this account and password",
        "check both",
    ),
    "NetworkError": ("The server cannot be reached", "check --server and --port"),
    "ConnectionRefused": ("The server cannot be reached", "check --server and --port"),
    "ConnectionFailed": ("The server cannot be reached", "check --server and --port"),
    "EncryptionNotAvailable": ("The server offers no encryption", "ask whoever runs it"),
}
_UNTRUSTED: Final = (
    "The server's certificate is not trusted",
    "name the authority that signed it with --ca-file",
)


def _refused(connection: ConnectionView) -> Exit:
    name, details = connection.error or ("", {})
    said = printable(str(details.get("debug-message") or details.get("message") or ""))
    short = name.rpartition(".")[2]
    if ".Cert." in name:
        what, advice = _UNTRUSTED
    else:
        what, advice = _REFUSALS.get(short, (f"Logging in failed ({short or 'no reason'})", ""))
    details_text = f" ({said.rstrip('.')})" if said else ""
    return Exit(NOT_CONNECTED, f"{what}{details_text}{f': {advice}' if advice else ''}.", name)


async def _certificates(connection: ConnectionView, output: Output) -> None:
    """Answer the server's certificate channels, until cancelled."""
    seen: set[str] = set()

    def fresh() -> ChannelView | None:
        for channel in connection.channels.values():
            if channel.type == TLS and channel.path not in seen and not channel.closed:
                return channel
        return None

    while True:
        await connection.wait(lambda: fresh() is not None)
        channel = fresh()
        if channel is None:
            continue
        seen.add(channel.path)
        await _certificate(channel, output)


async def _certificate(channel: ChannelView, output: Output) -> None:
    await channel.fill()
    connection = channel.connection
    host = printable(str(channel.get(TLS, "Hostname", "")))
    path = str(channel.get(TLS, "ServerCertificate", "/"))
    values = await connection.bus.get_all(connection.name, path, CERTIFICATE)
    chain = values.get("CertificateChainData") or [b""]
    digest = hashlib.sha256(bytes(chain[0])).hexdigest().upper()
    shown = ":".join(digest[i : i + 2] for i in range(0, len(digest), 2))
    output.say(
        "server-certificate",
        f"The certificate of the server {host} is not vouched for by an authority known here.",
        style="yellow",
        hostname=host,
        sha256=shown,
    )
    for line in fingerprint_lines(shown):
        output.show(f"    {line}")
    agreed = output.can_ask and "y" == await channel.unless(
        lambda: channel.closed, output.ask("Trust it for this login?", {"n": "", "y": ""}, "n")
    )
    if agreed:
        await connection.bus.call(connection.name, path, CERTIFICATE, "Accept")
    else:
        rejection: list[Any] = [REJECT_UNKNOWN, names.TP + "Error.Cert.Untrusted", {}]
        await connection.bus.call(
            connection.name, path, CERTIFICATE, "Reject", "a(usa{sv})", [rejection]
        )


async def disconnect(arguments: argparse.Namespace, output: Output) -> int:
    """``disconnect``; returns the exit code."""
    bus = await Bus.connect()
    try:
        found = await connections(bus)
        if arguments.account is not None:
            found = [c for c in found if same_account(c.account, arguments.account)]
            if not found:
                raise NotConnected(f"{arguments.account} is not logged in.")
        if not found:
            raise NotConnected("Nobody is logged in.")
        if len(found) > 1 and arguments.account is None:
            accounts = ", ".join(connection.account for connection in found)
            raise UsageError(f"Several accounts are logged in ({accounts}): name one.")
        for connection in found:
            account = connection.account
            await connection.call(names.CONNECTION, "Disconnect")
            await connection.wait_gone()
            output.say("disconnected", f"{printable(account)} is logged out.", account=account)
        return OK
    finally:
        await bus.close()


def read_password(arguments: argparse.Namespace, output: Output) -> str:
    """The password from ``--password-file``, from the environment, or asked for without echo.

    Never from the command line, which every user of the machine can read.

    Raises:
        UsageError: there is none to be had.
    """
    if arguments.password_file is not None:
        return first_line(arguments.password_file)
    if password := os.environ.get("TPE2E_PASSWORD", ""):
        return password
    if not output.can_ask or not sys.stdin.isatty():
        raise UsageError("No password: give --password-file or set TPE2E_PASSWORD.")
    try:
        password = getpass.getpass(f"Password of {printable(arguments.account)}: ")
    except EOFError:
        password = ""
    if not password:
        raise UsageError("No password was given.")
    return password


async def parameter_specs(bus: Bus) -> dict[str, str]:
    """The daemon's account parameters: name to D-Bus signature. Starts the daemon.

    Raises:
        NotConnected: there is no daemon, and the bus cannot start it.
    """
    try:
        (specs,) = await bus.call(
            names.CM_NAME, names.CM_PATH, names.CM, "GetParameters", "s", names.PROTOCOL
        )
    except BusError as error:
        if error.code == NOT_CONNECTED:
            raise NotConnected(
                "The connection manager is not running and the bus cannot start it: run "
                "'make install', or start 'telepathy-e2e --persist' by hand.",
                error.error,
            ) from error
        raise
    return {name: signature for name, _, signature, _ in specs}


def build_parameters(
    arguments: argparse.Namespace, password: str, specs: dict[str, str]
) -> dict[str, object]:
    """The parameters of RequestConnection, typed as the daemon declares them.

    Raises:
        UsageError: an unknown parameter, or a value that does not fit.
    """
    given: dict[str, str] = {}
    for text in arguments.param:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise UsageError(f"--param takes NAME=VALUE; {printable(text)} has no '='.")
        if name == "password":
            raise UsageError("A password is not given on the command line: use --password-file.")
        given[name] = value
    for name in ("server", "port", "resource"):
        if (value := getattr(arguments, name)) is not None:
            given[name] = str(value)
    if arguments.ca_file is not None:
        given["ca-file"] = str(Path(arguments.ca_file).resolve())
    given["account"] = arguments.account
    given["password"] = password
    parameters: dict[str, object] = {}
    for name, value in given.items():
        if name not in specs:
            known = ", ".join(sorted(specs))
            raise UsageError(f"There is no parameter {printable(name)}; there are: {known}.")
        parameters[name] = typed(specs[name], _convert(name, value, specs[name]))
    return parameters


# Integer types of D-Bus and the values they hold.
_RANGES: Final = {
    "y": (0, 2**8 - 1),
    "n": (-(2**15), 2**15 - 1),
    "q": (0, 2**16 - 1),
    "i": (-(2**31), 2**31 - 1),
    "u": (0, 2**32 - 1),
    "x": (-(2**63), 2**63 - 1),
    "t": (0, 2**64 - 1),
}


def _convert(name: str, text: str, signature: str) -> object:
    if signature == "s":
        return text
    if signature == "as":
        return [part for part in text.split(",") if part]
    if signature == "b":
        if text.lower() in ("true", "yes", "1"):
            return True
        if text.lower() in ("false", "no", "0"):
            return False
        raise UsageError(f"{name} is true or false, not {printable(text)}.")
    if signature in _RANGES:
        low, high = _RANGES[signature]
        try:
            number = int(text)
        except ValueError:
            number = low - 1
        if not low <= number <= high:
            raise UsageError(f"{name} is a number from {low} to {high}, not {printable(text)}.")
        return number
    raise UsageError(f"{name} cannot be given on the command line.")
