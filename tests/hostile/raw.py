"""A real Prosody that puts bytes of a test into a client's stream, whatever they are.

What goes through ``HostileServer`` has to be stanzas; this is for what is none, and for floods.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.support.prosody import Prosody, free_ports

MODULES = Path(__file__).parent / "prosody"


class RawServer:
    """``await RawServer.start()`` and ``await stop()``.

    Attributes:
        prosody: the server. It does not count stanzas (XEP-0198): what it does not know it sent
            would be confirmed to it.
    """

    def __init__(self, prosody: Prosody, port: int) -> None:
        self.prosody = prosody
        self._port = port
        self._file = prosody.directory / "raw"

    @classmethod
    async def start(cls, **options: Any) -> RawServer:
        (port,) = free_ports(1)
        settings = (
            "modules_enabled = { 'raw', 'carbons' }\nmodules_disabled = { 'smacks' }\n"
            f"raw_port = {port}\n{options.pop('settings', '')}"
        )
        start: Callable[..., Prosody] = Prosody.start
        prosody = await asyncio.to_thread(
            start, module_directory=MODULES, settings=settings, **options
        )
        return cls(prosody, port)

    async def stop(self) -> None:
        await asyncio.to_thread(self.prosody.stop)

    async def send(self, user: str, data: bytes) -> None:
        """To the one session of this user, after what the server has sent it so far."""
        await asyncio.to_thread(self._file.write_bytes, data)
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        try:
            writer.write(f"{user} {self._file}\n".encode())
            assert await reader.readline() == b"1\n", "there is not one session"
        finally:
            writer.close()
