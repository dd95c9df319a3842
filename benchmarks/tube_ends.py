"""The programs at the ends of a tube, or of anything else that carries TCP: processes of their own.

    python -m benchmarks.tube_ends serve BYTES          # sends so many to whoever connects
    python -m benchmarks.tube_ends fetch PORT NUMBER BYTES
    python -m benchmarks.tube_ends echo [DIRECTORY]
    python -m benchmarks.tube_ends ping PORT COUNT [DIRECTORY]

Those that serve say on which port of 127.0.0.1 they listen, the others print JSON. With a directory
that has a certificate (cert.pem, key.pem, ca.pem) echo and ping talk TLS 1.3.
"""

from __future__ import annotations

import json
import selectors
import socket
import ssl
import sys
import time

_BLOCK = 1 << 18


def serve(each: int) -> None:
    """To every connection ``each`` bytes and the end; all at once."""
    listening = _listen()
    block = memoryview(bytes(_BLOCK))
    waiting = selectors.DefaultSelector()
    waiting.register(listening, selectors.EVENT_READ)
    left: dict[int, int] = {}
    while True:
        for key, events in waiting.select():
            sock = key.fileobj
            assert isinstance(sock, socket.socket)
            if sock is listening:
                taken = listening.accept()[0]
                taken.setblocking(False)
                left[taken.fileno()] = each
                waiting.register(taken, selectors.EVENT_WRITE)
            elif events & selectors.EVENT_WRITE:
                more = left[sock.fileno()]
                more -= sock.send(block[:more])
                left[sock.fileno()] = more
                if not more:
                    sock.shutdown(socket.SHUT_WR)
                    waiting.modify(sock, selectors.EVENT_READ)  # until the other end goes
            else:
                try:
                    sock.recv(1)
                except ConnectionError:
                    pass
                waiting.unregister(sock)
                sock.close()


def fetch(port: int, number: int, each: int) -> None:
    """All of ``number`` connections; seconds from the first connect to the last byte."""
    buffer = bytearray(_BLOCK)
    waiting = selectors.DefaultSelector()
    started = time.perf_counter()
    socks = [socket.create_connection(("127.0.0.1", port)) for _ in range(number)]
    got = 0
    for sock in socks:
        sock.setblocking(False)
        waiting.register(sock, selectors.EVENT_READ)
    while waiting.get_map():
        for key, _ in waiting.select():
            fetching = key.fileobj
            assert isinstance(fetching, socket.socket)
            size = fetching.recv_into(buffer)
            got += size
            if not size:
                waiting.unregister(fetching)
    seconds = time.perf_counter() - started
    for sock in socks:
        sock.close()
    print(json.dumps({"seconds": seconds, "whole": got == number * each}))


def echo(directory: str | None) -> None:
    """Give back each byte, one connection after the other."""
    listening = _listen()
    while True:
        sock = listening.accept()[0]
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if directory is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.minimum_version = ssl.TLSVersion.TLSv1_3
            context.load_cert_chain(f"{directory}/cert.pem", f"{directory}/key.pem")
            sock = context.wrap_socket(sock, server_side=True)
        try:
            while data := sock.recv(1):
                sock.sendall(data)
        except OSError:
            pass
        sock.close()


def ping(port: int, count: int, directory: str | None) -> None:
    """Seconds for each of ``count`` bytes there and back."""
    sock = socket.create_connection(("127.0.0.1", port))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if directory is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.check_hostname = False
        context.load_verify_locations(f"{directory}/ca.pem")
        sock = context.wrap_socket(sock)
    taken = []
    for _ in range(count):
        started = time.perf_counter()
        sock.sendall(b"x")
        if sock.recv(1) != b"x":
            raise SystemExit("the echo ended")
        taken.append(time.perf_counter() - started)
    print(json.dumps(taken))


def _listen() -> socket.socket:
    listening = socket.create_server(("127.0.0.1", 0), backlog=256)
    print(listening.getsockname()[1], flush=True)
    return listening


def main() -> None:
    what, *arguments = sys.argv[1:]
    if what == "serve":
        serve(int(arguments[0]))
    elif what == "fetch":
        fetch(*map(int, arguments))
    elif what == "echo":
        echo(arguments[0] if arguments else None)
    else:
        port, count, *more = arguments
        ping(int(port), int(count), more[0] if more else None)


if __name__ == "__main__":
    main()
