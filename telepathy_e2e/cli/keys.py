"""Single keys on a terminal, without Enter, while something runs."""

from __future__ import annotations

import asyncio
import os
import termios
import tty
from collections.abc import Callable
from typing import Any, TextIO

# Read at once: a burst of keys, or what somebody pasted.
_BURST = 64


class Keys:
    """Calls ``pressed`` with each key from ``start`` to ``stop``; Ctrl-C interrupts as ever.

    Args:
        terminal: where somebody types.
    """

    def __init__(self, terminal: TextIO, pressed: Callable[[str], None]) -> None:
        self._fd = terminal.fileno()
        self._pressed = pressed
        self._before: list[Any] | None = None

    def start(self) -> None:
        """Take keys one by one, and do not show them."""
        self._before = termios.tcgetattr(self._fd)
        tty.setcbreak(self._fd, termios.TCSADRAIN)
        asyncio.get_running_loop().add_reader(self._fd, self._read)

    def stop(self) -> None:
        """The terminal as it was before; nothing happens if it is."""
        if self._before is not None:
            asyncio.get_running_loop().remove_reader(self._fd)
            termios.tcsetattr(self._fd, termios.TCSADRAIN, self._before)
            self._before = None

    def _read(self) -> None:
        typed = os.read(self._fd, _BURST)
        if not typed:
            self.stop()
        for key in typed.decode("ascii", "replace"):
            self._pressed(key)
