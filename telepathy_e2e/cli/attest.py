"""``tpe2e identity attest`` and ``vouch``: let somebody vouch for the own identity key, and be that
somebody for another device of one's own.

Neither a key nor anything secret is needed here: what is signed is public, and gpg or the key agent
does it.
"""

from __future__ import annotations

import argparse
import hmac
import os
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final
from urllib.parse import unquote

from telepathy_e2e.attest import chain, openpgp, own
from telepathy_e2e.attest.gnupg import Gpg, find_gpg
from telepathy_e2e.attest.statement import IDENTITY, OPENPGP, statement
from telepathy_e2e.attest.statement import vouching as vouching_statement
from telepathy_e2e.cli.exits import FAILED, Exit, UsageError
from telepathy_e2e.cli.output import Output
from telepathy_e2e.cli.words import parse_fingerprint, printable
from telepathy_e2e.errors import InvalidArgument, NotAvailable, SecurityError

# A chain in PEM with some text around it.
MAX_FILE: Final = 64 * 1024


async def run(arguments: argparse.Namespace, shown: str, output: Output) -> None:
    """Make an attestation and keep it where the daemon finds it.

    Args:
        arguments: of the command line.
        shown: the identity fingerprint as the key agent says it, hex with colons.
    """
    fingerprint = _raw(shown)
    signer = b""
    try:
        if arguments.type == OPENPGP:
            summary, data = await _openpgp(arguments.account, arguments.key, fingerprint)
        elif arguments.type == IDENTITY:
            summary, data, signer = _identity(arguments.account, arguments.file, fingerprint)
        else:
            summary, data = _x509(arguments.file, fingerprint)
        attestation = own.OwnAttestation(
            arguments.type,
            summary if arguments.summary is None else arguments.summary,
            fingerprint,
            data,
        )
        path = own.store(own.directory(os.environ, arguments.account), attestation, signer)
    except InvalidArgument as error:
        raise UsageError(f"{error}.") from error
    except NotAvailable as error:
        raise Exit(FAILED, f"{error}.") from error
    except OSError as error:
        raise Exit(FAILED, f"The attestation cannot be kept ({error.strerror}).") from error
    output.say(
        "attested",
        f"Kept. From the next channel on, contacts of {printable(arguments.account)} are shown:"
        f" {printable(attestation.summary)}",
        account=arguments.account,
        type=attestation.type,
        summary=attestation.summary,
        file=str(path),
    )


async def _openpgp(account: str, key: str, fingerprint: bytes) -> tuple[str, bytes]:
    program = find_gpg()
    if program is None:
        raise NotAvailable("gpg is not installed; the Debian package is gnupg")
    gpg = Gpg(program)
    primary, user_ids = await gpg.signing_key(key)
    wanted = openpgp.PREFIX + account
    if wanted not in [each.text for each in user_ids]:
        # Contacts would refuse it: a key says nothing of an address that is not in it.
        raise UsageError(
            f"This key has no user id {printable(wanted)}: add it with"
            f" 'gpg --quick-add-uid {primary} {printable(wanted)}', and let your contacts certify"
            " it."
        )
    data = await gpg.sign(primary, statement(account, fingerprint))
    try:
        openpgp.check_packet(data)
    except SecurityError as error:
        raise NotAvailable(f"gpg made something that contacts would refuse: {error}") from error
    return f"OpenPGP key {primary}", data


def _x509(name: str, fingerprint: bytes) -> tuple[str, bytes]:
    try:
        with Path(name).open("rb") as file:
            content = file.read(MAX_FILE + 1)
    except OSError as error:
        raise UsageError(f"{name} cannot be read ({error.strerror}).") from error
    try:
        data = chain.from_file(content)
        found = chain.fingerprint(chain.split(data)[0])
    except (SecurityError, ValueError) as error:
        raise UsageError(f"{name} holds no chain of certificates: {error}.") from None
    if not hmac.compare_digest(found, fingerprint):
        raise UsageError(
            f"The first certificate in {name} is for another key than this account's identity."
        )
    return "Certificate for this key", data


def _identity(account: str, name: str, fingerprint: bytes) -> tuple[str, bytes, bytes]:
    """The summary, the data, and whose identity vouches."""
    from telepathy_e2e.attest import identity  # late: cryptography is big

    try:
        if name == "-":
            raw = sys.stdin.buffer.read(own.MAX_FILE + 1)
        else:
            with Path(name).open("rb") as file:
                raw = file.read(own.MAX_FILE + 1)
    except OSError as error:
        raise UsageError(f"{printable(name)} cannot be read ({error.strerror}).") from error
    try:
        given = own.OwnAttestation.from_json(raw)
        if given.type != IDENTITY:
            raise ValueError("it is of another type")
    except (ValueError, InvalidArgument) as error:
        raise UsageError(
            f"{printable(name)} is not what 'tpe2e identity vouch' writes: {error}."
        ) from None
    if not hmac.compare_digest(given.fingerprint, fingerprint):
        raise UsageError(
            f"The key in {printable(name)} is another one than this account's identity here."
        )
    try:
        signer = identity.check(
            given.data, vouched=fingerprint, bare_jid=account, wall=datetime.now(UTC)
        )
    except SecurityError as error:
        raise UsageError(f"Contacts would refuse what is in {printable(name)}: {error}.") from None
    return given.summary, given.data, signer


@dataclass(frozen=True)
class Vouching:
    """What one device is going to say of another one.

    Args:
        shown: fingerprint of the other device, hex with colons.
        vouched: the same, 32 bytes.
        statement: what is to be signed, see ``attest.statement``.
    """

    shown: str
    vouched: bytes
    statement: bytes


def vouching(arguments: argparse.Namespace, shown: str) -> Vouching:
    """What the command line says.

    Args:
        shown: this device's fingerprint, hex with colons.
    Raises:
        UsageError: it makes no sense.
    """
    account, given = arguments.account, arguments.device
    try:
        vouched = bytes.fromhex(parse_fingerprint(given))
    except ValueError:
        raise UsageError(
            "That is neither a fingerprint, all 64 digits of it, nor the URI that a device shows:"
            " 'tpe2e identity show' there says it."
        ) from None
    other = vouched.hex(":").upper()
    scheme, _, rest = given.strip().partition(":")
    address = unquote(rest.partition("?")[0])
    if scheme.lower() == "xmpp" and address.casefold() != account.casefold():
        raise UsageError(f"That is not the key of a device of {printable(account)}.")
    if hmac.compare_digest(other, shown):
        raise UsageError("That is the key of this device; it vouches for others.")
    return Vouching(other, vouched, vouching_statement(vouched, _raw(shown)))


def write(
    arguments: argparse.Namespace,
    said: Vouching,
    certificate: bytes,
    signature: bytes,
    output: Output,
) -> None:
    """Write the attestation for the other device.

    Args:
        certificate: this device's identity, DER.
    Raises:
        Exit: it cannot be written, or is nothing that contacts would take.
    """
    from telepathy_e2e.attest import identity  # late: cryptography is big

    summary = "Another device that is verified" if arguments.summary is None else arguments.summary
    data = identity.build(certificate, signature)
    try:
        identity.check(
            data, vouched=said.vouched, bare_jid=arguments.account, wall=datetime.now(UTC)
        )
        text = own.OwnAttestation(IDENTITY, summary, said.vouched, data).to_json() + "\n"
    except SecurityError as error:
        raise Exit(FAILED, f"Contacts would refuse what was signed: {error}.") from error
    except InvalidArgument as error:
        raise UsageError(f"{error}.") from error
    name = arguments.file
    if name == "-":
        sys.stdout.write(text)
        sys.stdout.flush()
        return
    try:
        with open(name, "x", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise UsageError(f"{printable(name)} cannot be written ({error.strerror}).") from error
    output.say(
        "vouched",
        f"Written. On the other device: 'tpe2e identity attest identity"
        f" {printable(arguments.account)} {printable(name)}'. It is not secret.",
        account=arguments.account,
        fingerprint=said.shown,
        file=name,
    )


def _raw(shown: str) -> bytes:
    return bytes.fromhex(shown.replace(":", ""))
