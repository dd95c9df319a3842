"""The key agent on the bus (spec/Key_Agent1.xml)."""

from __future__ import annotations

from typing import Final

BUS_NAME: Final = "org.freedesktop.Telepathy.E2E.KeyAgent"
PATH: Final = "/org/freedesktop/Telepathy/E2E/KeyAgent"
INTERFACE: Final = BUS_NAME + "1"
