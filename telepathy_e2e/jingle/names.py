"""The one place where names of received files are made safe.

Whoever shows, logs or opens a file under a name that a peer chose uses ``safe_name`` first.
"""

from __future__ import annotations

from typing import Final
from unicodedata import category

from .reading import is_unsafe

# NAME_MAX of Linux and of nearly every file system below it, in bytes.
MAX_BYTES: Final = 255

# Longer "extensions" are sentences with a full stop in them. In bytes, with the dot.
MAX_EXTENSION: Final = 32

# What remains of a name of which nothing remains.
FALLBACK: Final = "file"

_SEPARATORS: Final = frozenset("/\\")

# Invisible, and with a meaning to some programs: zero-width space, word joiner, byte order mark.
_INVISIBLE: Final = frozenset("\u200b\u2060\ufeff")


def safe_name(peer_name: str) -> str:
    """A name for a file in a directory of our choice, as near to ``peer_name`` as is safe.

    Separators, controls and what reverses text become underscores, so that ``../../etc/passwd``
    stays in the directory and still looks like what it is. Leading dots go: a peer must not write
    hidden files, ``.`` or ``..``. The extension survives shortening, since it decides what opens
    the file. Never empty, at most ``MAX_BYTES`` bytes of UTF-8; safe names come back unchanged.
    """
    name = "".join("_" if _is_bad(char) else char for char in peer_name)
    name = _shorten(_trim(name))
    if not any(category(char)[0] in "LNPS" for char in name):
        return FALLBACK  # nothing that one could see and click on
    return name


def _is_bad(char: str) -> bool:
    return char in _SEPARATORS or char in _INVISIBLE or is_unsafe(char)


def _trim(name: str) -> str:
    """Without white space at both ends and without leading dots, however they are mixed."""
    start = 0
    while start < len(name) and (name[start] == "." or name[start].isspace()):
        start += 1
    return name[start:].rstrip()


def _shorten(name: str) -> str:
    encoded = name.encode()
    if len(encoded) <= MAX_BYTES:
        return name
    stem, dot, extension = name.rpartition(".")
    suffix = (dot + extension).encode()
    if not stem or len(suffix) > MAX_EXTENSION:
        stem, suffix = name, b""
    # Cut between characters: half a character is an undecodable name.
    kept = stem.encode()[: MAX_BYTES - len(suffix)].decode(errors="ignore")
    return (kept + suffix.decode()).rstrip()
