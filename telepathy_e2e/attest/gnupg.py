"""The user's gpg, in a process of its own with bounds: it alone knows his keys and whom he trusts.

Whatever is wrong with gpg itself is ``NotAvailable``; whatever is wrong with what a peer wrote, or
with the key behind it, is ``SecurityError``.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from telepathy_e2e.attest import openpgp
from telepathy_e2e.attest.statement import statement
from telepathy_e2e.errors import NotAvailable, SecurityError

# Seconds. A signature takes some milliseconds; a key ring of thousands, whose trust is looked at
# anew, some seconds.
TIMEOUT: Final = 20.0
# Seconds in which a person finds and types his passphrase.
SIGN_TIMEOUT: Final = 300.0

# A key with some hundred user ids and subkeys. Signatures on keys are not listed.
MAX_OUTPUT: Final = 256 * 1024

# Of the environment gpg gets what it needs to find its files and its agent, and to show the
# passphrase's window.
_PASSED: Final = (
    "HOME",
    "GNUPGHOME",
    "PATH",
    "XDG_RUNTIME_DIR",
    "DISPLAY",
    "WAYLAND_DISPLAY",
    "XAUTHORITY",
    "DBUS_SESSION_BUS_ADDRESS",
    "GPG_TTY",
    "TERM",
)


def find_gpg() -> str | None:
    """The path of gpg; None where it is not installed, and there is no method ``openpgp``."""
    return shutil.which("gpg")


class Gpg:
    """Runs one command at a time: what strangers send must not start many of them.

    Args:
        program: path of gpg.
        environment: of the user's session.
    """

    def __init__(self, program: str, environment: Mapping[str, str] = os.environ) -> None:
        self._program = program
        self._environment = {"LC_ALL": "C.UTF-8"} | {
            name: environment[name] for name in _PASSED if name in environment
        }
        self._turn = asyncio.Lock()

    async def check(
        self,
        data: bytes,
        *,
        bare_jid: str,
        fingerprint: bytes,
        normalise: Callable[[str], str],
    ) -> str:
        """That a key which the user trusts to be this JID's signed that statement.

        Args:
            data: of the attestation, as the peer wrote it.
            bare_jid: the peer's, normalised, from the stanzas.
            fingerprint: of his identity, 32 bytes.
            normalise: brings the JID of a user id into the form of ``bare_jid``.
        Returns:
            The fingerprint of the primary key.
        Raises:
            SecurityError: nobody did whom the user trusts.
            NotAvailable: gpg did not work.
        """
        openpgp.check_packet(data)
        async with self._turn:
            try:
                status = await self._verify(data, statement(bare_jid, fingerprint))
            except OSError as error:
                raise NotAvailable(f"There is no room for gpg's files: {error.strerror}") from error
            primary = openpgp.signer(status)
            listing = await self._run(openpgp.list_arguments(primary), may_fail=True)
        ids = openpgp.user_ids(listing, primary)
        if not any(each.trusted and names(each.text, bare_jid, normalise) for each in ids):
            raise SecurityError(
                "an OpenPGP key that has no user id with this address which the user trusts"
            )
        return primary

    async def _verify(self, signature: bytes, signed: bytes) -> bytes:
        """What gpg says of a detached signature; it wants files."""
        with tempfile.TemporaryDirectory(prefix="e2e-attestation-") as directory:
            paths = Path(directory, "statement.sig"), Path(directory, "statement")
            paths[0].write_bytes(signature)
            paths[1].write_bytes(signed)
            arguments = openpgp.verify_arguments(*map(str, paths))
            # The exit code says less than the status: it is 0 for expired keys as well.
            return await self._run(arguments, may_fail=True)

    async def signing_key(self, key: str) -> tuple[str, list[openpgp.UserId]]:
        """The one secret key of that name: its fingerprint, and its user ids.

        Args:
            key: as the user names it.
        Raises:
            NotAvailable: there is none, or several.
        """
        listing = await self._run(openpgp.list_secret_arguments(key), may_fail=True)
        return openpgp.secret_key(listing)

    async def sign(self, key: str, content: bytes) -> bytes:
        """A detached signature; gpg-agent asks the user for his passphrase.

        Raises:
            NotAvailable: gpg did not make one.
        """
        return await self._run(openpgp.sign_arguments(key), content=content, seconds=SIGN_TIMEOUT)

    async def _run(
        self,
        arguments: Sequence[str],
        *,
        content: bytes = b"",
        may_fail: bool = False,
        seconds: float = TIMEOUT,
    ) -> bytes:
        """Its standard output."""
        try:
            process = await asyncio.create_subprocess_exec(
                self._program,
                *arguments,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
                env=self._environment,
                # A Ctrl-C is for whoever waits here.
                start_new_session=True,
            )
        except OSError as error:
            raise NotAvailable(f"gpg cannot be started: {error.strerror or error}") from error
        try:
            async with asyncio.timeout(seconds):
                output = await _talk(process, content)
                code = await process.wait()
        except TimeoutError:
            raise NotAvailable("gpg did not answer in time") from None
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
        if code != 0 and not may_fail:
            raise NotAvailable("gpg could not do it; try the same by hand to see why")
        return output


async def _talk(process: asyncio.subprocess.Process, content: bytes) -> bytes:
    """Feed it, and read until the end or the bound."""
    stdin, stdout = process.stdin, process.stdout
    if stdin is None or stdout is None:
        raise AssertionError("a process without pipes")
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        stdin.write(content)
        await stdin.drain()
    stdin.close()
    output = bytearray()
    while block := await stdout.read(64 * 1024):
        output += block
        if len(output) > MAX_OUTPUT:
            raise NotAvailable("gpg says more than makes sense")
    return bytes(output)


def names(user_id: str, bare_jid: str, normalise: Callable[[str], str]) -> bool:
    """Whether a user id is ``xmpp:`` and this JID, and nothing beside it."""
    prefix, jid = user_id[: len(openpgp.PREFIX)], user_id[len(openpgp.PREFIX) :]
    return prefix == openpgp.PREFIX and normalise(jid) == bare_jid
