"""The file that the memory is kept in, and the settings beside it.

One small file, written whole to a new one and renamed, under a lock; not SQLite: there a page
that was cut off or changed by a disk can read as fewer rows, and an empty file as an empty
database. Here every byte is under one digest, and what was not written by us is an error.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import tomllib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final, TypeVar

from telepathy_e2e.errors import E2EError
from telepathy_e2e.handler.book import MAX_BYTES, Book, BookDamaged
from telepathy_e2e.handler.pins import InClear, Settings, UnknownKey

T = TypeVar("T")

FILE: Final = "pins"
# Bytes of the settings: two lines, and what people write about them.
MAX_SETTINGS: Final = 64 * 1024


class StoreError(E2EError):
    """What was remembered cannot be read or written. It is not empty: nothing is known."""


def directory(environment: Mapping[str, str]) -> Path:
    """Where pins are kept (XDG Base Directory Specification)."""
    return _base(environment, "XDG_DATA_HOME", ".local/share")


def settings_file(environment: Mapping[str, str]) -> Path:
    """Where the user's choices are."""
    return _base(environment, "XDG_CONFIG_HOME", ".config") / "trust.toml"


def _base(environment: Mapping[str, str], variable: str, otherwise: str) -> Path:
    home = environment.get(variable, "")
    # "all paths must be absolute": a relative one would be wherever we were started.
    return (Path(home) if os.path.isabs(home) else Path.home() / otherwise) / "telepathy-e2e"


def read_settings(path: Path) -> Settings:
    """The user's choices; the defaults where there is no file.

    Raises:
        StoreError: there is one, and it makes no sense.
    """
    try:
        with path.open("rb") as file:
            text = file.read(MAX_SETTINGS + 1)
        if len(text) > MAX_SETTINGS:
            raise ValueError("too long")
        given = tomllib.loads(text.decode())
        unknown = UnknownKey(given.pop("unknown-key", UnknownKey.TRUST))
        clear = InClear(given.pop("in-the-clear", InClear.PROCEED))
        if given:
            raise ValueError(f"there is no setting {min(given)}")
    except FileNotFoundError:
        return Settings()
    except (OSError, ValueError) as error:
        raise StoreError(f"{path}: {error}") from error
    return Settings(unknown, clear)


class Store:
    """The memory on disk.

    Args:
        directory: made when something is remembered first.
    """

    def __init__(self, directory: Path) -> None:
        self.path = directory / FILE
        self._stamp: tuple[int, ...] | None = None
        self._book = Book()

    def read(self) -> Book:
        """All of it; not to be changed. Cheap as long as nobody writes.

        Raises:
            StoreError: it cannot be read, or not all of it is as it was written.
        """
        try:
            status = self.path.lstat()
            stamp = status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size
            if stamp == self._stamp:
                return self._book
            # If it is replaced between the two, the next call finds another stamp.
            self._stamp, self._book = None, self._load()
            self._stamp = stamp
        except FileNotFoundError:
            self._stamp, self._book = None, Book()
        except OSError as error:
            raise StoreError(f"{self.path}: {error.strerror}") from error
        return self._book

    def _load(self) -> Book:
        # A link to a disk that is not there would be "no file", which is "nothing known", and
        # replacing a link would leave what it points to behind. A pipe would wait for ever.
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            descriptor = os.open(self.path, flags)
        except OSError as error:
            if error.errno != errno.ELOOP:
                raise
            raise StoreError(f"{self.path} is a symbolic link; put the file itself there") from None
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise StoreError(f"{self.path} is not a regular file; move it away")
        with open(descriptor, "rb") as file:
            data = file.read(MAX_BYTES + 1)
        try:
            return Book.from_bytes(data)
        except BookDamaged as error:
            raise StoreError(
                f"{self.path} is damaged: {error}. Nothing in it is believed, and nothing is "
                "accepted without asking. Put a copy in its place, or move it away to begin "
                "anew and import what was exported."
            ) from error

    def update(self, change: Callable[[Book], T]) -> T:
        """Change it. Two processes take turns; who dies on the way leaves what was there.

        Args:
            change: gets what is there now, changes it, and must be quick. What it raises leaves
                everything as it was.
        Raises:
            StoreError: it cannot be read or written; a damaged one is never written over.
        """
        try:
            with self._locked():
                # A book of its own: the one that readers share is never seen half changed.
                try:
                    book = self._load()
                except FileNotFoundError:
                    book = Book()
                before = book.to_bytes()
                result = change(book)
                if (data := book.to_bytes()) != before:
                    self._write(data)
        except OSError as error:
            raise StoreError(f"{self.path}: {error.strerror or error}") from error
        return result

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # A file of its own, since the other one is replaced; and never removed, since who waits
        # for a removed one waits beside who made a new one.
        lock = os.open(
            self.path.with_name(FILE + ".lock"),
            os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW,
            0o600,
        )
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)

    def _write(self, data: bytes) -> None:
        if len(data) > MAX_BYTES:
            raise StoreError(f"{self.path} would become too large")
        new = self.path.with_name(FILE + ".new")
        # Whatever a killed one left; ours are the only hands here, under the lock.
        new.unlink(missing_ok=True)
        descriptor = os.open(
            new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600
        )
        with open(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(descriptor)
        os.replace(new, self.path)
        above = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(above)
        finally:
            os.close(above)
