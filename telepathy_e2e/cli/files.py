"""Files on this side: names from others made safe, partial files, nothing ever overwritten."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import hashlib
import os
import stat
import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from telepathy_e2e.cli.exits import FAILED, Exit, UsageError

# ext4, btrfs and most others take 255 bytes a name; room is left for " (99)" and for the name of
# the partial file, which is longer by a dot, a digest and an ending.
MAX_NAME_BYTES: Final = 200
MAX_EXTENSION_BYTES: Final = 20

# "name (1)" to "name (999)": after that many of one name somebody should look at the directory.
MAX_COPIES: Final = 999

PARTIAL_ENDING: Final = ".tpe2e-part"

READ_SIZE: Final = 1 << 20


def safe_name(name: str) -> str:
    """The name under which a file from somebody else is stored: one plain component.

    The daemon has cleaned it already; a client that creates files does not rely on that. Stopped
    are: leaving the directory (separators, ``..``), hidden files, names that look like options,
    control and reordering characters, over-long names, and the names that Windows reserves for
    streams (``:``), as the directory may be on such a disk.
    """
    name = unicodedata.normalize("NFC", name).replace("\\", "/").rpartition("/")[2]
    name = "".join(
        "_" if unicodedata.category(c)[0] == "C" or c in '\u2028\u2029:*?"<>|' else c for c in name
    )
    name = name.strip().rstrip(".").lstrip(".").strip()
    if name.startswith(("-", "~")):
        name = "_" + name
    if not name:
        return "file"
    if len(name.encode()) <= MAX_NAME_BYTES:
        return name
    stem, dot, extension = name.rpartition(".")
    if not dot or not stem or len(extension.encode()) > MAX_EXTENSION_BYTES:
        stem, extension = name, ""
    ending = f".{extension}" if extension else ""
    room = MAX_NAME_BYTES - len(ending.encode())
    return stem.encode()[:room].decode("utf-8", "ignore").rstrip() + ending


def numbered(name: str, number: int) -> str:
    """``name``, or ``name (number)`` before the extension."""
    if not number:
        return name
    stem, dot, extension = name.rpartition(".")
    return f"{stem} ({number}).{extension}" if dot and stem else f"{name} ({number})"


@dataclass(frozen=True)
class SourceFile:
    """A file to send, open for reading: what is announced is what is read."""

    fd: int
    name: str
    size: int
    modified: int

    def close(self) -> None:
        os.close(self.fd)


def open_source(path: Path) -> SourceFile:
    """Open a regular file to send.

    Raises:
        UsageError: it is not there, not readable, or not a regular file.
    """
    try:
        # O_NONBLOCK: opening a pipe must not wait for a writer.
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise UsageError(f"{path} cannot be read ({error.strerror}): name a file.") from error
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode):
        os.close(fd)
        raise UsageError(f"{path} is not a regular file: pack it into one first.")
    return SourceFile(fd, path.name, status.st_size, int(status.st_mtime))


async def sha256_of(fd: int, limit: int | None = None) -> hashlib._Hash:
    """SHA-256 over the first ``limit`` bytes of an open file, or over all of it; in pieces, so
    that it can be cancelled.
    """
    digest = hashlib.sha256()
    position = 0
    while limit is None or position < limit:
        wanted = READ_SIZE if limit is None else min(READ_SIZE, limit - position)
        piece = await asyncio.to_thread(os.pread, fd, wanted, position)
        if not piece:
            break
        await asyncio.to_thread(digest.update, piece)
        position += len(piece)
    return digest


class PartialFile:
    """A file on its way in. ``finish`` gives it its name; ``close`` keeps it for another time
    where that is possible, and otherwise removes it.

    Args:
        directory: where the file goes.
        name: a safe name.
        key: what the file is: sender, name, size, hash. Only a file with the same key is resumed;
            empty where there is no hash to check the joined pieces by.
        size: bytes announced, or None.
    """

    def __init__(self, directory: Path, name: str, key: str, size: int | None) -> None:
        self._directory = directory
        self.name = name
        self._resumable = bool(key)
        token = hashlib.sha256(key.encode()).hexdigest()[:16] if key else os.urandom(8).hex()
        self._path = directory / f".{name}.{token}{PARTIAL_ENDING}"
        self._done = False
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        if not key:
            flags |= os.O_EXCL
        try:
            self.fd = os.open(self._path, flags, 0o600)
        except OSError as error:
            raise Exit(
                FAILED, f"{directory} cannot be written to ({error.strerror}): see --dir."
            ) from error
        status = os.fstat(self.fd)
        ours = (
            stat.S_ISREG(status.st_mode) and status.st_nlink == 1 and status.st_uid == os.geteuid()
        )
        if not ours:
            os.close(self.fd)
            raise Exit(FAILED, f"{self._path} is not a partial file of yours: remove it.")
        try:
            # Two receivers must not write one file.
            fcntl.flock(self.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self.fd)
            raise Exit(FAILED, f"{name} is being received already.") from error
        if size is not None and status.st_size > size:
            os.ftruncate(self.fd, 0)
            self.offset = 0
        else:
            self.offset = status.st_size
        os.lseek(self.fd, self.offset, os.SEEK_SET)

    def start_at(self, offset: int) -> None:
        """Go on at ``offset``, at most what is there: the sender may not be able to resume."""
        if offset > self.offset:
            raise Exit(FAILED, "The transfer would leave a hole in the file.")
        os.ftruncate(self.fd, offset)
        os.lseek(self.fd, offset, os.SEEK_SET)
        self.offset = offset

    def write(self, data: memoryview) -> None:
        """Append ``data``.

        Raises:
            Exit: the disk is full, or gone.
        """
        try:
            while data:
                count = os.write(self.fd, data)
                data = data[count:]
                self.offset += count
        except OSError as error:
            raise Exit(FAILED, f"{self.name} cannot be written ({error.strerror}).") from error

    def finish(self, modified: int = 0) -> Path:
        """Everything is there and checked: give the file its name, never another file's.

        Raises:
            Exit: there is no name left, or the disk refuses.
        """
        os.fsync(self.fd)
        if modified > 0:
            try:
                os.utime(self.fd, (modified, modified))
            except (OSError, OverflowError):
                pass  # a date that the disk cannot hold is not worth a failed transfer
        for number in range(MAX_COPIES + 1):
            target = self._directory / numbered(self.name, number)
            try:
                self._claim(target)
            except FileExistsError:
                continue
            except OSError as error:
                raise Exit(FAILED, f"{target} cannot be created ({error.strerror}).") from error
            self._done = True
            return target
        raise Exit(FAILED, f"There are {MAX_COPIES} files called {self.name} already: tidy up.")

    def _claim(self, target: Path) -> None:
        """Move to ``target``; fails, in one step, if something is there."""
        try:
            os.link(self._path, target, follow_symlinks=False)
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.EMLINK, errno.ENOSYS):
                raise
            # No hard links here (FAT): claim the name with an empty file of ours, and replace it.
            os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
            os.replace(self._path, target)
        else:
            os.unlink(self._path)

    def discard(self) -> None:
        """What came is wrong: nothing of it is kept."""
        self._resumable = False

    def close(self) -> None:
        """Let go; what is there is kept only if it can be resumed."""
        if self.fd < 0:
            return
        if not self._done and (not self._resumable or self.offset == 0):
            self._path.unlink(missing_ok=True)
        os.close(self.fd)
        self.fd = -1
