"""What this machine can do, to measure file transfers against: ``python -m benchmarks.relay``.

Both figures are taken over TCP on loopback and end when the last byte has been read at the far end:

- ``plain_relay``: source process, one asyncio process that pumps, sink process; no protection;
- ``openssl``: ``openssl s_client`` to ``openssl s_server``, TLS 1.3 with AES-256-GCM.

Neither process start nor handshake is in the time: the clock starts at the far end.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import fcntl
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from telepathy_e2e.net.streams import CHUNK, SocketStream

#: Bytes moved by default: several seconds' worth would be steadier, this is enough to compare.
SIZE = 1 << 30

CIPHER_SUITE = "TLS_AES_256_GCM_SHA384"

# Bytes that are read before the clock starts, so that slow starts are in no figure.
_WARM_UP = 1 << 20

_START_SECONDS = 10.0

_SOURCE = """
import socket, sys
size, sock = int(sys.argv[1]), socket.socket(fileno=int(sys.argv[2]))
zeros = memoryview(bytes(1 << 20))
while size:
    size -= sock.send(zeros[:size])
sock.shutdown(socket.SHUT_WR)
sock.recv(1)
"""


def plain_relay(size: int = SIZE, chunk: int = CHUNK) -> float:
    """MB/s through one asyncio process that reads from one TCP connection and writes to another."""
    with contextlib.ExitStack() as stack:
        source, relay_in = _tcp_pair(stack)
        relay_out, sink = _tcp_pair(stack)
        children = [
            subprocess.Popen(
                [sys.executable, "-c", _SOURCE, str(size), str(source.fileno())],
                pass_fds=[source.fileno()],
            ),
            subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "benchmarks.relay",
                    "--pump",
                    str(chunk),
                    str(relay_in.fileno()),
                    str(relay_out.fileno()),
                ],
                pass_fds=[relay_in.fileno(), relay_out.fileno()],
            ),
        ]
        for child in children:
            stack.callback(_stop, child)
        for sock in (source, relay_in, relay_out):
            sock.close()
        buffer = bytearray(1 << 20)
        return _measure(size, lambda: sink.recv_into(buffer))


def openssl(size: int = SIZE) -> float:
    """MB/s that ``openssl s_client`` and ``s_server`` move over loopback with TLS 1.3."""
    with contextlib.ExitStack() as stack:
        directory = stack.enter_context(tempfile.TemporaryDirectory())
        key, certificate = Path(directory, "key.pem"), Path(directory, "cert.pem")
        subprocess.run(
            [
                "openssl",
                "req",
                "-x509",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:P-256",
                "-nodes",
                "-keyout",
                key,
                "-out",
                certificate,
                "-subj",
                "/CN=benchmark",
            ],
            check=True,
            capture_output=True,
        )
        port = _free_port()
        server = subprocess.Popen(
            [
                "openssl",
                "s_server",
                "-quiet",
                "-accept",
                f"127.0.0.1:{port}",
                "-naccept",
                "1",
                "-tls1_3",
                "-ciphersuites",
                CIPHER_SUITE,
                "-key",
                key,
                "-cert",
                certificate,
            ],
            stdin=subprocess.PIPE,  # held open: at its end the server would hang up
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        stack.callback(_stop, server)
        _wait_until_listening(port, server)
        zeros = stack.enter_context(open("/dev/zero", "rb"))  # no process of its own for this
        client = subprocess.Popen(
            [
                "openssl",
                "s_client",
                "-quiet",
                "-connect",
                f"127.0.0.1:{port}",
                "-tls1_3",
                "-ciphersuites",
                CIPHER_SUITE,
            ],
            stdin=zeros,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        stack.callback(_stop, client)
        assert server.stdout is not None
        descriptor = server.stdout.fileno()
        fcntl.fcntl(descriptor, fcntl.F_SETPIPE_SZ, 1 << 20)  # fewer switches, in its favour
        return _measure(size, lambda: len(os.read(descriptor, 1 << 20)))


def _measure(size: int, read: Callable[[], int]) -> float:
    """MB/s at which ``read``, which returns how many bytes it got, makes up ``size``."""
    count = 0
    while count < min(_WARM_UP, size // 4):
        count += (got := read())
        if not got:
            raise RuntimeError("the stream ended early")
    first, started = count, time.perf_counter()
    while count < size:
        count += (got := read())
        if not got:
            raise RuntimeError("the stream ended early")
    return (count - first) / (time.perf_counter() - started) / 1e6


def _tcp_pair(stack: contextlib.ExitStack) -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        one = stack.enter_context(socket.create_connection(listening.getsockname()))
        other = stack.enter_context(listening.accept()[0])
    return one, other


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port: int = sock.getsockname()[1]
        return port


def _wait_until_listening(port: int, server: subprocess.Popen[bytes]) -> None:
    # Not by connecting: -naccept 1 would count that.
    deadline = time.monotonic() + _START_SECONDS
    while not listens(port):
        if server.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError("openssl s_server did not start")
        time.sleep(0.01)


def listens(port: int) -> bool:
    """Whether somebody does, on IPv4; nothing connects to him."""
    return f":{port:04X} 00000000:0000 0A" in Path("/proc/net/tcp").read_text()


def _stop(child: subprocess.Popen[bytes]) -> None:
    child.kill()
    child.wait()
    for pipe in (child.stdin, child.stdout):
        if pipe is not None:
            with contextlib.suppress(BrokenPipeError):
                pipe.close()


async def _pump(chunk: int, source: int, sink: int) -> None:
    reader = SocketStream(socket.socket(fileno=source))
    writer = SocketStream(socket.socket(fileno=sink))
    while data := await reader.read(chunk):
        await writer.write(data)
    writer.close()
    reader.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=SIZE, help="bytes")
    parser.add_argument("--chunk", type=int, default=CHUNK, help="bytes per read of the relay")
    parser.add_argument("--pump", type=int, nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.pump:
        asyncio.run(_pump(*arguments.pump))
        return
    print(f"plain relay  {plain_relay(arguments.size, arguments.chunk):8.0f} MB/s")
    print(f"openssl      {openssl(arguments.size):8.0f} MB/s")


if __name__ == "__main__":
    main()
