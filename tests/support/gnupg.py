"""A person's GnuPG in a directory of its own: keys, trust, and an agent that ends with the test."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

needs_gpg = pytest.mark.skipif(
    shutil.which("gpg") is None, reason="needs gpg (the Debian package gnupg)"
)


@dataclass
class Keyring:
    """See ``keyring``."""

    home: Path

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, "GNUPGHOME": str(self.home), "LC_ALL": "C.UTF-8"}

    def gpg(self, *arguments: str, content: bytes = b"") -> bytes:
        """Standard output of a command that has to succeed."""
        done = subprocess.run(
            ["gpg", "--batch", "--yes", "--no-tty", "--pinentry-mode=loopback", *arguments],
            input=content,
            capture_output=True,
            env=self.environment,
            check=False,
        )
        assert done.returncode == 0, done.stderr.decode(errors="replace")
        return done.stdout

    def make(self, user_id: str, *, expire: str = "1y", when: str = "") -> str:
        """A key without passphrase; its fingerprint."""
        faked = [f"--faked-system-time={when}"] if when else []
        before = set(self.fingerprints())
        self.gpg(
            *faked, "--passphrase=", "--quick-generate-key", user_id, "ed25519", "sign", expire
        )
        (made,) = set(self.fingerprints()) - before
        return made

    def fingerprints(self) -> list[str]:
        """Of the primary keys."""
        lines = self.gpg("--with-colons", "--list-keys").decode().split("\n")
        return [
            after.split(":")[9]
            for line, after in itertools.pairwise(lines)
            if line.startswith("pub:")
        ]

    def sign(self, key: str, content: bytes, *options: str) -> bytes:
        """A detached signature."""
        return self.gpg(
            "--no-armor", *options, "-u", key, "-o", "-", "--detach-sign", content=content
        )

    def export(self, key: str) -> bytes:
        return self.gpg("--export", key)

    def import_(self, data: bytes) -> None:
        self.gpg("--import", content=data)

    def certify(self, key: str, own: str) -> None:
        """The user has met the owner of this key: its user ids are fully valid for him."""
        self.gpg("-u", own, "--quick-lsign-key", key)

    def trust(self, key: str, level: int) -> None:
        """Ownertrust, as ``--export-ownertrust`` has it (6: ultimate)."""
        self.gpg("--import-ownertrust", content=f"{key}:{level}:\n".encode())

    def revoke(self, key: str) -> None:
        certificate = (self.home / "openpgp-revocs.d" / f"{key}.rev").read_text()
        # A colon in front of the armour keeps it from being imported by accident.
        self.gpg("--import", content=certificate.replace(":-----BEGIN", "-----BEGIN").encode())

    def stop(self) -> None:
        subprocess.run(
            ["gpgconf", "--kill", "all"], env=self.environment, check=False, capture_output=True
        )


@contextmanager
def keyring() -> Iterator[Keyring]:
    """One for a test. Its path is short: sockets of the agent are in it."""
    home = Path(tempfile.mkdtemp(prefix="gpg-"))
    ring = Keyring(home)
    try:
        yield ring
    finally:
        ring.stop()
        shutil.rmtree(home, ignore_errors=True)
