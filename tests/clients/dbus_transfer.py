"""A script with dbus-python moves a file, as KDE's clients do or by unix sockets.

WAY send CONNECTION CONTACT FILE, or WAY receive CONNECTION CHANNEL FILE; WAY is ``ipv4`` (access
control Localhost) or ``unix`` (Credentials).
"""

from __future__ import annotations

import os
import socket
import struct
import sys
from pathlib import Path
from typing import Any

import dbus
from dbus.mainloop.glib import DBusGMainLoop
from gi.repository import GLib

from tests.clients.words import say

CHANNEL = "org.freedesktop.Telepathy.Channel"
FILE_TRANSFER = CHANNEL + ".Type.FileTransfer"
REQUESTS = "org.freedesktop.Telepathy.Connection.Interface.Requests"
WAYS = {"ipv4": (2, 0), "unix": (0, 3)}
OPEN, COMPLETED, CANCELLED = 3, 4, 5


class Transfer:
    """One file transfer channel, and the states it was in."""

    def __init__(self, way: str, path: str, where: str) -> None:
        self.bus = dbus.SessionBus(mainloop=DBusGMainLoop())
        self.name = path[1:].replace("/", ".")
        self.way = way
        self.states: list[int] = []
        self.loop = GLib.MainLoop()
        self.channel = dbus.Interface(self.bus.get_object(self.name, where), FILE_TRANSFER)
        self.properties = dbus.Interface(self.channel, dbus.PROPERTIES_IFACE)
        self.channel.connect_to_signal("FileTransferStateChanged", self._changed)

    def method(self) -> tuple[int, int]:
        """Address type and access control, which the channel must offer."""
        kind, control = WAYS[self.way]
        offered = self.properties.Get(FILE_TRANSFER, "AvailableSocketTypes")
        say("offered", control=[int(each) for each in offered[kind]])
        return kind, control

    def connect(self, address: Any) -> socket.socket:
        """The socket that ProvideFile or AcceptFile named."""
        if self.way == "ipv4":
            host, port = address
            return socket.create_connection((str(host), int(port)))
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(bytes(bytearray(address)))
        # The kernel tells who we are along with one byte.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        own = struct.pack("3i", os.getpid(), os.getuid(), os.getgid())
        sock.sendmsg([b"\0"], [(socket.SOL_SOCKET, socket.SCM_CREDENTIALS, own)])
        return sock

    def until(self, *states: int) -> None:
        """Wait for one of these states, or the end."""
        wanted = {*states, COMPLETED, CANCELLED}
        while not wanted & set(self.states):
            self.loop.run()

    def _changed(self, state: int, reason: int) -> None:
        self.states.append(int(state))
        say("state", state=int(state), reason=int(reason))
        self.loop.quit()


def request(path: str, contact: str, file: Path) -> str:
    """Ask for a channel; its path."""
    bus = dbus.SessionBus()
    connection = dbus.Interface(bus.get_object(path[1:].replace("/", "."), path), REQUESTS)
    where, _ = connection.CreateChannel(
        {
            CHANNEL + ".ChannelType": FILE_TRANSFER,
            CHANNEL + ".TargetHandleType": dbus.UInt32(1),
            CHANNEL + ".TargetID": contact,
            FILE_TRANSFER + ".Filename": file.name,
            FILE_TRANSFER + ".Size": dbus.UInt64(file.stat().st_size),
            FILE_TRANSFER + ".ContentType": "application/octet-stream",
        }
    )
    return str(where)


def send(way: str, path: str, contact: str, file: Path) -> None:
    transfer = Transfer(way, path, request(path, contact, file))
    address = transfer.channel.ProvideFile(*map(dbus.UInt32, transfer.method()), dbus.UInt32(0))
    with transfer.connect(address) as sock:
        transfer.until(OPEN)
        sock.sendall(file.read_bytes())
        sock.shutdown(socket.SHUT_WR)
        transfer.until()


def receive(way: str, path: str, where: str, file: Path) -> None:
    transfer = Transfer(way, path, where)
    kind, control = map(dbus.UInt32, transfer.method())
    address = transfer.channel.AcceptFile(kind, control, dbus.UInt32(0), dbus.UInt64(0))
    with transfer.connect(address) as sock, file.open("wb") as output:
        while block := sock.recv(1 << 16):
            output.write(block)
    transfer.until()


if __name__ == "__main__":
    way, what, connection, other, name = sys.argv[1:6]
    # Needed before the first use of the bus, or signals are not heard.
    DBusGMainLoop(set_as_default=True)
    (send if what == "send" else receive)(way, connection, other, Path(name))
