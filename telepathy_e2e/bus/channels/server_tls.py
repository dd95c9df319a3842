"""Channel.Type.ServerTLSConnection."""

from __future__ import annotations

from telepathy_e2e.bus.members import Interface, Property
from telepathy_e2e.bus.types import Strings
from telepathy_e2e.bus.wire import DBusObjectPath, DBusStr
from telepathy_e2e.service import names


class ServerTLSInterface(Interface):
    """``Channel.Type.ServerTLSConnection``."""

    name = names.SERVER_TLS

    ServerCertificate = Property(DBusObjectPath)
    Hostname = Property(DBusStr)
    ReferenceIdentities = Property(Strings)
