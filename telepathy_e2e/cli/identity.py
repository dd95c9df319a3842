"""``tpe2e identity``: what the key agent keeps, and moving it between devices.

Passphrases go to the agent through pipes, never as arguments of a D-Bus call.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Final

from telepathy_e2e.attest.statement import IDENTITY
from telepathy_e2e.cli import names
from telepathy_e2e.cli.bus import CALL_TIMEOUT, Bus
from telepathy_e2e.cli.exits import OK, UsageError
from telepathy_e2e.cli.output import HumanOutput, Output
from telepathy_e2e.cli.secret import first_line
from telepathy_e2e.cli.words import fingerprint_lines, printable

# What a pipe takes without a reader, and far more than a passphrase has.
MAX_PASSPHRASE: Final = 1024

# The key agent gives people two minutes, as for the keyring's question, and has to start.
SIGNING_SECONDS: Final = 150.0


async def run(arguments: argparse.Namespace, output: Output) -> int:
    """The command; returns the exit code."""
    bus = await Bus.connect(descriptors=True)
    try:
        agent = _Agent(bus)
        match arguments.action:
            case "show":
                await _show(agent, arguments.account, output)
            case "export":
                await _export(agent, arguments, output)
            case "import":
                await _import(agent, arguments, output)
            case "lock":
                await agent.call("Lock")
                output.say("locked", "All keys are locked that have a passphrase.")
            case "unlock":
                await agent.call(
                    "Unlock", "h", await _passphrase(arguments.passphrase_file, output)
                )
                output.say("unlocked", "Unlocked.")
            case "passphrase":
                await _seal(agent, arguments, output)
            case "attest":
                from telepathy_e2e.cli import attest

                await attest.run(arguments, await _fingerprint(agent, arguments.account), output)
            case "vouch":
                await _vouch(agent, arguments, output)
            case _:
                await _forget(agent, arguments, output)
        return OK
    finally:
        await bus.close()


class _Agent:
    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    async def call(
        self, member: str, signature: str = "", *arguments: object, patience: float = CALL_TIMEOUT
    ) -> list[Any]:
        """A method; what is ``bytes`` goes through a pipe, an ``int`` is a descriptor.

        Args:
            patience: seconds.
        """
        body: list[object] = []
        passed: list[int] = []
        with ExitStack() as pipes:
            for each in arguments:
                if isinstance(each, bytearray):
                    each = bytes(each)  # public, an argument as it is
                elif isinstance(each, bytes):
                    each = pipes.enter_context(_pipe(each))
                if isinstance(each, int):
                    passed.append(each)
                    each = len(passed) - 1
                body.append(each)
            return await self._bus.call(
                names.AGENT,
                names.AGENT_PATH,
                names.AGENT_INTERFACE,
                member,
                signature,
                *body,
                descriptors=passed,
                patience=patience,
            )

    async def properties(self) -> dict[str, Any]:
        return await self._bus.get_all(names.AGENT, names.AGENT_PATH, names.AGENT_INTERFACE)


async def _show(agent: _Agent, account: str | None, output: Output) -> None:
    known = await agent.properties()
    found = []
    for each in known["Accounts"]:
        if account is not None and each != account:
            continue
        (fingerprints,) = await agent.call("GetFingerprints", "s", each)
        locked = each in known["Locked"]
        found.append({"account": each, "locked": locked, "fingerprints": fingerprints})
    if account is not None and not found:
        raise UsageError(f"There is no identity of {printable(account)} here.")
    lines = []
    for one in found:
        lines.append(printable(str(one["account"])) + (" (locked)" if one["locked"] else ""))
        for name, digest in sorted(one["fingerprints"].items()):
            lines += [f"  {name}", *(f"  {line}" for line in fingerprint_lines(digest))]
    output.show("\n".join(lines) or "There are no identities yet: the first login makes one.")
    output.say("identities", "", identities=found)


async def _export(agent: _Agent, arguments: argparse.Namespace, output: Output) -> None:
    passphrase = await _new_passphrase(arguments.passphrase_file, output)
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as file:
        try:
            await agent.call("Export", "shh", arguments.account, passphrase, writing)
        finally:
            os.close(writing)
        data = file.read()
    try:
        # Never over a file that is there: it may be the only backup.
        descriptor = os.open(arguments.file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file_out:
            file_out.write(data)
            file_out.flush()
            os.fsync(file_out.fileno())
    except OSError as error:
        raise UsageError(f"{arguments.file} cannot be written ({error.strerror}).") from error
    output.say(
        "exported",
        f"The identity of {printable(arguments.account)} is in {printable(arguments.file)}. Whoever"
        " has that file and the passphrase can be you.",
        account=arguments.account,
        file=arguments.file,
    )


async def _import(agent: _Agent, arguments: argparse.Namespace, output: Output) -> None:
    with _opened(arguments.file) as file:
        passphrase = await _passphrase(arguments.passphrase_file, output)
        await agent.call("Import", "shh", arguments.account, passphrase, file.fileno())
    output.say(
        "imported",
        f"The identity of {printable(arguments.account)} is here now, without a passphrase:"
        " 'tpe2e identity passphrase' gives it one.",
        account=arguments.account,
    )


async def _seal(agent: _Agent, arguments: argparse.Namespace, output: Output) -> None:
    current = b""
    if arguments.current_file is not None:
        current = first_line(arguments.current_file).encode()
    elif arguments.account in (await agent.properties())["Locked"] or arguments.sealed:
        current = (await output.ask_secret("The passphrase until now:")).encode()
    if arguments.secret_service:
        # The keyring may ask the user for its own password meanwhile.
        await agent.call(
            "UseSecretService", "sh", arguments.account, current, patience=SIGNING_SECONDS
        )
        output.say(
            "sealed",
            f"The desktop's keyring has the passphrase of {printable(arguments.account)}'s key"
            " now. Without the keyring that key is lost: keep a backup of it, or of the key.",
        )
        return
    new = b"" if arguments.remove else await _new_passphrase(arguments.passphrase_file, output)
    await agent.call(
        "SetPassphrase", "shh", arguments.account, current, new, patience=SIGNING_SECONDS
    )
    said = "has no passphrase any more" if arguments.remove else "has this passphrase now"
    output.say("sealed", f"The key of {printable(arguments.account)} {said}.")


async def _vouch(agent: _Agent, arguments: argparse.Namespace, output: Output) -> None:
    from telepathy_e2e.cli import attest

    account = arguments.account
    if arguments.file == "-":
        if arguments.json:
            raise UsageError("--json and no FILE both want the standard output: name a file.")
        output = HumanOutput(sys.stderr, sys.stderr, sys.stdin)
    own = await _fingerprint(agent, account)
    vouching = attest.vouching(arguments, own)
    output.show(f"The key of this device, which vouches:\n{_indented(own)}")
    output.show(f"The key that it vouches for:\n{_indented(vouching.shown)}")
    question = (
        f"Is that the key of another device of {printable(account)}, and does that device show the"
        " same?"
    )
    if not arguments.yes and await output.ask(question, {"y": "", "n": ""}, "n") != "y":
        raise UsageError("Nothing was signed.")
    signed: list[object] = [account, IDENTITY, bytearray(vouching.statement)]
    if (
        arguments.passphrase_file is not None
        or arguments.sealed
        or account in (await agent.properties())["Locked"]
    ):
        passphrase = await _passphrase(arguments.passphrase_file, output)
        (signature,) = await agent.call(
            "SignAttestationWithPassphrase", "ssayh", *signed, passphrase
        )
    else:
        output.show("The key agent asks as well, by a notification on this desktop.")
        (signature,) = await agent.call(
            "SignAttestation", "ssay", *signed, patience=SIGNING_SECONDS
        )
    (certificate,) = await agent.call("GetIdentity", "s", account)
    attest.write(arguments, vouching, bytes(certificate), bytes(signature), output)


async def _fingerprint(agent: _Agent, account: str) -> str:
    """Of the account's identity, hex with colons; none is made."""
    (known,) = await agent.call("GetFingerprints", "s", account)
    return str(known["sha-256"])


def _indented(fingerprint: str) -> str:
    return "\n".join(f"  {line}" for line in fingerprint_lines(fingerprint))


async def _forget(agent: _Agent, arguments: argparse.Namespace, output: Output) -> None:
    question = (
        f"Delete the identity of {printable(arguments.account)}? Without a backup all contacts have"
        " to verify you again."
    )
    if not arguments.yes and await output.ask(question, {"y": "", "n": ""}, "n") != "y":
        raise UsageError("Nothing was deleted.")
    await agent.call("Forget", "s", arguments.account)
    output.say("forgotten", "Deleted.", account=arguments.account)


async def _passphrase(file: str | None, output: Output) -> bytes:
    given = first_line(file) if file is not None else await output.ask_secret("Passphrase:")
    passphrase = given.encode()
    if not 0 < len(passphrase) <= MAX_PASSPHRASE:
        raise UsageError(f"A passphrase has 1 to {MAX_PASSPHRASE} bytes.")
    return passphrase


async def _new_passphrase(file: str | None, output: Output) -> bytes:
    passphrase = await _passphrase(file, output)
    # Nobody sees what he types, and a typing error here is a key that is lost.
    if file is None and (await output.ask_secret("Again:")).encode() != passphrase:
        raise UsageError("These were two different passphrases.")
    return passphrase


def _opened(name: str) -> BinaryIO:
    try:
        return Path(name).open("rb")
    except OSError as error:
        raise UsageError(f"{name} cannot be read ({error.strerror}).") from error


@contextmanager
def _pipe(data: bytes) -> Iterator[int]:
    reading, writing = os.pipe()
    try:
        os.write(writing, data)
        os.close(writing)
        yield reading
    finally:
        os.close(reading)
