"""Pictures on disk, each under its own hash, up to a number of bytes.

Its functions block: run them in a thread.
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import threading
from pathlib import Path
from typing import Final

from telepathy_e2e.xmpp.avatar import is_named
from telepathy_e2e.xmpp.vcard import MAX_PHOTO

log = logging.getLogger(__name__)

# Bytes of all pictures: those of some thousand contacts. Whoever wants to fill a disk has to send
# as much for each picture that goes.
MAX_TOTAL: Final = 32 * 1024 * 1024
# Below which we stop when some have to go, so that it is not for each new one.
LOW: Final = MAX_TOTAL * 3 // 4
# What a small file takes on disk.
BLOCK: Final = 4096


class AvatarCache:
    """Pictures of one user, whatever account they came through.

    Args:
        directory: of all caches.
        total: bytes of all pictures.
    """

    def __init__(self, directory: Path, total: int = MAX_TOTAL) -> None:
        self.path = directory / "avatars"
        self._total = total
        self._used = -1
        self._lock = threading.Lock()

    def get(self, token: bytes) -> bytes | None:
        """The picture with this SHA-1; a file that has come to hold something else is removed."""
        path = self._file(token)
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
            with open(descriptor, "rb") as file:
                data = file.read(MAX_PHOTO + 1)
            if is_named(data, token):
                os.utime(path)  # the oldest go first
                return data
        except OSError:
            return None
        self._remove(path)
        return None

    def put(self, token: bytes, data: bytes) -> None:
        """Keep a picture whose SHA-1 this is; on a full disk it is not kept."""
        with self._lock:
            try:
                self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                self.path.mkdir(mode=0o700, exist_ok=True)
                self._write(self._file(token), data)
                self._used = self._used + _size(len(data)) if self._used >= 0 else self._scan()
                if self._used > self._total:
                    self._shrink()
            except OSError as error:
                log.info("a picture is not cached: %s", error.strerror)

    def _file(self, token: bytes) -> Path:
        return self.path / token.hex()

    def _write(self, path: Path, data: bytes) -> None:
        temporary = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        try:
            with open(os.open(temporary, flags, 0o600), "wb") as file:
                file.write(data)
            temporary.replace(path)
        except OSError:
            self._remove(temporary)
            raise

    def _scan(self) -> int:
        return sum(size for _, size, _ in self._files())

    def _files(self) -> list[tuple[float, int, str]]:
        """(when it was used last, bytes, path) of each, whoever wrote it."""
        found = []
        with os.scandir(self.path) as entries:
            for each in entries:
                with contextlib.suppress(OSError):
                    status = each.stat(follow_symlinks=False)
                    found.append((status.st_mtime, _size(status.st_size), each.path))
        return found

    def _shrink(self) -> None:
        files = sorted(self._files())
        self._used = sum(size for _, size, _ in files)
        for _, size, path in files:
            if self._used <= self._total * LOW // MAX_TOTAL:
                break
            self._remove(Path(path))
            self._used -= size

    @staticmethod
    def _remove(path: Path) -> None:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)


def _size(length: int) -> int:
    """On disk."""
    return (length + BLOCK - 1) // BLOCK * BLOCK
