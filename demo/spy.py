"""The wire: a tap through which the spying server leads every connection between the two sides.

Why there: it needs no privileges and no special switch in the program, and it is what a hostile
server can really do. XTLS leaves the roads out of what it signs, because they do not matter to it.
"""

from __future__ import annotations

import random
import socket
import threading
from collections import Counter
from math import log2
from pathlib import Path

CHUNK = 1 << 18

# Enough for the addresses that both sides offer in two transfers, with some network interfaces.
PORTS = 48

# A stretch of this many bytes, found whole on the wire, was sent as it is.
STRETCH = 63
WINDOW = 32


class Tap:
    """Listens, forwards to where the connection was meant to go, and keeps every byte."""

    def __init__(self, directory: Path) -> None:
        self.map_file = directory / "map"
        self.notes_file = directory / "notes"
        self._recordings = directory / "wire"
        self._recordings.mkdir()
        self._listeners = []
        self._count = 0
        self._lock = threading.Lock()
        for _ in range(PORTS):
            listener = socket.create_server(("127.0.0.1", 0))
            self._listeners.append(listener)
            threading.Thread(target=self._listen, args=(listener,), daemon=True).start()

    @property
    def settings(self) -> str:
        """For Prosody's configuration."""
        ports = ", ".join(str(listener.getsockname()[1]) for listener in self._listeners)
        return (
            f"spy_ports = {{ {ports} }}\n"
            f'spy_map = "{self.map_file}"\n'
            f'spy_notes = "{self.notes_file}"\n'
        )

    def close(self) -> None:
        for listener in self._listeners:
            # Wakes the thread that waits in accept().
            try:
                listener.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            listener.close()

    def recordings(self) -> list[Path]:
        """One file for each direction of each connection so far."""
        return sorted(self._recordings.iterdir())

    def forget(self) -> None:
        """A new act: what was recorded is put away."""
        for path in self.recordings():
            path.unlink()
        self.notes_file.unlink(missing_ok=True)

    def notes(self) -> str:
        """The Jingle stanzas that the server saw."""
        return self.notes_file.read_text() if self.notes_file.exists() else ""

    def _listen(self, listener: socket.socket) -> None:
        port = listener.getsockname()[1]
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=self._forward, args=(connection, port), daemon=True).start()

    def _forward(self, connection: socket.socket, port: int) -> None:
        try:
            beyond = socket.create_connection(self._meant(port), timeout=10)
            beyond.settimeout(None)
        except OSError:
            connection.close()
            return
        with self._lock:
            self._count += 1
            number = self._count
        back = threading.Thread(
            target=self._pump, args=(beyond, connection, f"{number:03}-back"), daemon=True
        )
        back.start()
        self._pump(connection, beyond, f"{number:03}-there")
        back.join()
        connection.close()
        beyond.close()

    def _meant(self, port: int) -> tuple[str, int]:
        for line in self.map_file.read_text().splitlines():
            tap_port, host, meant = line.split(" ")
            if int(tap_port) == port:
                return host, int(meant)
        raise OSError("nobody's port")

    def _pump(self, source: socket.socket, sink: socket.socket, name: str) -> None:
        buffer = memoryview(bytearray(CHUNK))
        # Unbuffered: what has arrived beyond is on record, wherever this thread is by now.
        with (self._recordings / name).open("wb", buffering=0) as recording:
            try:
                while count := source.recv_into(buffer):
                    recording.write(buffer[:count])
                    sink.sendall(buffer[:count])
                sink.shutdown(socket.SHUT_WR)
            except OSError:
                for end in (source, sink):
                    try:
                        end.shutdown(socket.SHUT_RDWR)
                    except OSError:
                        pass


def stretches_on_the_wire(file: Path, recordings: list[Path], count: int) -> tuple[int, int]:
    """Look for ``count`` random stretches of the file in what was recorded.

    Returns:
        (how many were found, how many were looked for).
    """
    content = file.read_bytes()
    if len(content) < STRETCH:
        return 0, 0
    windows: dict[bytes, set[int]] = {}
    for number in range(count):
        start = random.randrange(len(content) - STRETCH + 1)  # noqa: S311 - no secret
        # Wherever the stretch may lie on the wire, one of its windows begins at a multiple of
        # the window's length: so the wire is read once, for all stretches together.
        for shift in range(STRETCH - WINDOW + 1):
            window = content[start + shift : start + shift + WINDOW]
            windows.setdefault(window, set()).add(number)
    found: set[int] = set()
    for path in recordings:
        wire = path.read_bytes()
        for position in range(0, len(wire) - WINDOW + 1, WINDOW):
            numbers = windows.get(wire[position : position + WINDOW])
            if numbers is not None:
                found |= numbers
    return len(found), count


def entropy(path: Path, limit: int = 4_000_000) -> float:
    """Bits a byte, over the first ``limit`` bytes; 8 is indistinguishable from noise."""
    with path.open("rb") as file:
        sample = file.read(limit)
    if not sample:
        return 0.0
    counts = Counter(sample).values()
    return -sum(count / len(sample) * log2(count / len(sample)) for count in counts)
