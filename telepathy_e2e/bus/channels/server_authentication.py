"""Channel.Type.ServerAuthentication."""

from __future__ import annotations

from telepathy_e2e.bus.members import Interface, Property
from telepathy_e2e.bus.wire import DBusStr
from telepathy_e2e.service import names


class ServerAuthenticationInterface(Interface):
    """``Channel.Type.ServerAuthentication``."""

    name = names.SERVER_AUTHENTICATION

    AuthenticationMethod = Property(DBusStr)
