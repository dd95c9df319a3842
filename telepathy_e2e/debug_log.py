"""The log: what goes to standard error, and the last of it for who asks later (Telepathy, Debug).

Nothing secret is ever logged, at any level: no password, no key, no message body. So the ring may
hold everything, whatever standard error shows; but for the stanzas, for the sake of speed.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from typing import Final, NamedTuple

PACKAGE: Final = "telepathy_e2e"
# How messages are called on the bus: the name of the connection manager, a slash, the category.
DOMAIN: Final = "e2e"

# A line for each stanza: a third of what a busy connection costs. Only for those who ask.
STANZAS: Final = f"{PACKAGE}.xmpp.trace"

# Messages kept, and characters of each: a few minutes of a busy connection in about 200 kB.
MAX_MESSAGES: Final = 1000
MAX_TEXT: Final = 500

# Debug_Level
ERROR, CRITICAL, WARNING, MESSAGE, INFO, DEBUG = range(6)


class DebugMessage(NamedTuple):
    """Debug_Message: seconds since 1970, domain, Debug_Level, text."""

    timestamp: float
    domain: str
    level: int
    text: str


class Ring(logging.Handler):
    """Keeps the last messages.

    Attributes:
        listener: told of each new message, in whatever thread it came from; None: nobody.
    """

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.messages: deque[DebugMessage] = deque(maxlen=MAX_MESSAGES)
        self.listener: Callable[[DebugMessage], None] | None = None

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if record.exc_info and record.exc_info[0] is not None:
            # A traceback has lines of source and an exception's text, which others wrote.
            text += f" ({record.exc_info[0].__name__})"
        message = DebugMessage(
            record.created, _domain(record.name), _level(record.levelno), text[:MAX_TEXT]
        )
        self.messages.append(message)
        if self.listener is not None:
            self.listener(message)


class _Categories(logging.Filter):
    """What of our log goes to standard error: what is important, and what was asked for."""

    def __init__(self, debug: str) -> None:
        super().__init__()
        words = [word.strip() for word in debug.split(",") if word.strip()]
        self._all = "all" in words
        self._names = tuple(f"{PACKAGE}.{word}." for word in words)

    def filter(self, record: logging.LogRecord) -> bool:
        if self._all or record.levelno >= logging.INFO:
            return True
        return f"{record.name}.".startswith(self._names)


def configure(debug: str) -> Ring:
    """Begin to log.

    Only our own packages are ever turned up: those that we use write down whole stanzas and
    messages, passwords included.

    Args:
        debug: value of TELEPATHY_E2E_DEBUG: categories for standard error, or ``all``.
    """
    shown = logging.StreamHandler()
    shown.addFilter(_Categories(debug))
    logging.basicConfig(
        level=logging.WARNING,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        handlers=[shown],
    )
    ours = logging.getLogger(PACKAGE)
    ours.setLevel(logging.DEBUG)
    show_stanzas("all" in debug or "xmpp" in debug)
    ring = Ring()
    ours.addHandler(ring)
    return ring


def show_stanzas(show: bool) -> None:
    """Whether each stanza has its line."""
    logging.getLogger(STANZAS).setLevel(logging.DEBUG if show else logging.INFO)


def _domain(name: str) -> str:
    """``telepathy_e2e.xmpp.client`` to ``e2e/xmpp``."""
    return "/".join([DOMAIN, *name.split(".")[1:2]])


def _level(level: int) -> int:
    for at_least, shown in (
        (logging.CRITICAL, CRITICAL),
        (logging.ERROR, CRITICAL),
        (logging.WARNING, WARNING),
        (logging.INFO, INFO),
    ):
        if level >= at_least:
            return shown
    return DEBUG
