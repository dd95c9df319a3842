"""``tpe2e identity attest``: let somebody vouch for the own identity key.

Neither the key nor anything secret is needed here: what is signed is public, and gpg does it.
"""

from __future__ import annotations

import argparse
import hmac
import os
from pathlib import Path
from typing import Final

from telepathy_e2e.attest import chain, openpgp, own
from telepathy_e2e.attest.gnupg import Gpg, find_gpg
from telepathy_e2e.attest.statement import OPENPGP, statement
from telepathy_e2e.cli.exits import FAILED, Exit, UsageError
from telepathy_e2e.cli.output import Output
from telepathy_e2e.cli.words import printable
from telepathy_e2e.errors import InvalidArgument, NotAvailable, SecurityError

# A chain in PEM with some text around it.
MAX_FILE: Final = 64 * 1024


async def run(arguments: argparse.Namespace, shown: str, output: Output) -> None:
    """Make an attestation and keep it where the daemon finds it.

    Args:
        arguments: of the command line.
        shown: the identity fingerprint as the key agent says it, hex with colons.
    """
    fingerprint = bytes.fromhex(shown.replace(":", ""))
    try:
        if arguments.type == OPENPGP:
            summary, data = await _openpgp(arguments.account, arguments.key, fingerprint)
        else:
            summary, data = _x509(arguments.file, fingerprint)
        attestation = own.OwnAttestation(
            arguments.type,
            summary if arguments.summary is None else arguments.summary,
            fingerprint,
            data,
        )
        path = own.store(own.directory(os.environ, arguments.account), attestation)
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
