"""The parameters of the protocol ``jabber``: one table, from which everything about them is made.

Names, types and defaults are telepathy-gabble's (its ``src/protocol.c``), so that accounts made for
it work here. Two of its defaults are left out: the fallback servers at ``telepathy.im``. They are
not there any more, and whoever gets that domain would get everybody's requests.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntFlag
from typing import Any, Final

from telepathy_e2e.bus.values import fit, variant
from telepathy_e2e.bus.wire import Variant
from telepathy_e2e.errors import InvalidArgument, NotImplementedByUs
from telepathy_e2e.trust.policy import Policy
from telepathy_e2e.xmpp.jid import bare, local_of, normalise

PORT: Final = 5222
# What old-ssl made customary: TLS from the first byte.
DIRECT_TLS_PORT: Final = 5223

# RFC 7622 allows 3071 bytes for a whole JID; file names and host names are shorter. Anything longer
# than this is not a parameter.
MAX_TEXT: Final = 4096
# Servers, proxies or host names in one parameter.
MAX_ITEMS: Final = 64


class Flag(IntFlag):
    """Conn_Mgr_Param_Flags."""

    NONE = 0
    REQUIRED = 1
    REGISTER = 2
    HAS_DEFAULT = 4
    SECRET = 8
    DBUS_PROPERTY = 16


# What the type wants shown as the default where there is none.
_EMPTY: Final[Mapping[str, object]] = {"s": "", "b": False, "n": 0, "q": 0, "u": 0, "as": []}


@dataclass(frozen=True)
class Parameter:
    """One parameter: its D-Bus signature, flags, and default (None: none)."""

    name: str
    signature: str
    flags: Flag = Flag.NONE
    default: object = None

    @property
    def all_flags(self) -> Flag:
        return self.flags | (Flag.HAS_DEFAULT if self.default is not None else Flag.NONE)

    def spec(self) -> list[Any]:
        """Param_Spec (susv)."""
        shown = _EMPTY[self.signature] if self.default is None else self.default
        flags = int(self.all_flags)
        return [self.name, flags, self.signature, variant(self.signature, shown)]


PARAMETERS: Final = (
    Parameter("account", "s", Flag.REQUIRED | Flag.REGISTER),
    Parameter("password", "s", Flag.REGISTER | Flag.SECRET),
    Parameter("server", "s"),
    Parameter("resource", "s"),
    Parameter("priority", "n", default=0),
    Parameter("port", "q", default=PORT),
    Parameter("old-ssl", "b", default=False),
    Parameter("require-encryption", "b", default=True),
    Parameter("register", "b", default=False),
    Parameter("fallback-conference-server", "s"),
    Parameter("stun-server", "s"),
    Parameter("stun-port", "q", default=3478),
    Parameter("fallback-stun-server", "s"),
    Parameter("fallback-stun-port", "q", default=3478),
    Parameter("ignore-ssl-errors", "b", default=False),
    Parameter("alias", "s"),
    Parameter("fallback-socks5-proxies", "as", default=[]),
    Parameter("keepalive-interval", "u", default=30),
    Parameter("extra-certificate-identities", "as"),
    # Ours.
    Parameter("ca-file", "s"),
    Parameter("turn-server", "s"),
    Parameter("turn-port", "q", default=3478),
    Parameter("turn-transport", "s", default="udp"),
    Parameter("turn-username", "s"),
    Parameter("turn-password", "s", Flag.SECRET),
    Parameter("e2e-policy", "s", default="opportunistic"),
    Parameter("e2e-ask-certificate", "b", default=False),
    Parameter("e2e-always-verify", "b", default=False),
    Parameter("e2e-publish-identity", "b", default=True),
    Parameter("e2e-hide-identity", "b", default=False),
    Parameter("e2e-ca-file", "s"),
    Parameter("e2e-openpgp", "b", default=False),
    Parameter("call-audio-source", "s", default="pulse"),
    Parameter("call-audio-sink", "s", default="pulse"),
    Parameter("call-video-source", "s", default="v4l2"),
    Parameter("call-video-sink", "s", default="null"),
)

_BY_NAME: Final = {each.name: each for each in PARAMETERS}
_PORTS: Final = ("port", "stun-port", "fallback-stun-port", "turn-port")
_TURN_TRANSPORTS: Final = ("udp", "tcp", "tls")


def parse(given: Mapping[str, Variant]) -> dict[str, Any]:
    """The parameters of a connection: checked, plain, with the defaults filled in.

    ``account`` comes out normalised and bare; a resource in it is ``resource``, unless that says
    another one. Parameters that are not given and have no default are not there.

    Args:
        given: as in RequestConnection.
    Raises:
        InvalidArgument: says which one is wrong and what to do.
        NotImplementedByUs: one that this program cannot do what it asks for.
    """
    result = {
        each.name: list(each.default) if isinstance(each.default, list) else each.default
        for each in PARAMETERS
        if each.default is not None
    }
    for name, value in given.items():
        result[name] = _checked(name, value)
    for each in PARAMETERS:
        if Flag.REQUIRED in each.flags and not result.get(each.name):
            raise InvalidArgument(f"The parameter {each.name} is missing; it is required")
    _check_account(result)
    _check_meaning(result)
    if result["old-ssl"] and "port" not in given:
        result["port"] = DIRECT_TLS_PORT
    if result["e2e-hide-identity"] and "e2e-publish-identity" not in given:
        # Shown to whoever asks the server, there would be nothing left to hide.
        result["e2e-publish-identity"] = False
    return result


def identify(given: Mapping[str, Variant]) -> str:
    """What the account is called (Protocol.IdentifyAccount): its bare JID.

    Raises:
        InvalidArgument: see ``parse``; other parameters than ``account`` are not looked at.
    """
    if "account" not in given:
        raise InvalidArgument("The parameter account is missing; it is required")
    result = {"account": _checked("account", given["account"])}
    _check_account(result)
    return str(result["account"])


def _checked(name: str, value: Variant) -> Any:
    parameter = _BY_NAME.get(name)
    if parameter is None:
        known = ", ".join(_BY_NAME)
        raise InvalidArgument(f"There is no parameter {name[:80]!r}; there are: {known}")
    plain = fit(f"The parameter {name}", value, parameter.signature)
    texts = plain if isinstance(plain, list) else [plain] if isinstance(plain, str) else []
    if len(texts) > MAX_ITEMS:
        raise InvalidArgument(f"The parameter {name} has more than {MAX_ITEMS} items")
    if any(len(text) > MAX_TEXT for text in texts):
        raise InvalidArgument(f"The parameter {name} is longer than {MAX_TEXT} characters")
    if name in _PORTS and plain == 0:
        raise InvalidArgument(f"The parameter {name} must not be 0; leave it out for the default")
    return plain


def _check_account(result: dict[str, Any]) -> None:
    try:
        account = normalise(result["account"])
        if not local_of(account):
            raise ValueError("There is no user name before the @")
        own, _, resource = account.partition("/")
        wanted = result.get("resource") or resource
        if wanted:
            result["resource"] = normalise(f"{own}/{wanted}")[len(own) + 1 :]
    except ValueError as error:
        raise InvalidArgument(
            "The parameter account must look like alice@example.org, and resource like home:"
            f" {error}"
        ) from error
    result["account"] = bare(account)


def _check_meaning(result: Mapping[str, Any]) -> None:
    if not -128 <= result["priority"] <= 127:
        raise InvalidArgument("The parameter priority must be a number from -128 to 127")
    if result["turn-transport"] not in _TURN_TRANSPORTS:
        raise InvalidArgument(
            f"The parameter turn-transport must be one of {', '.join(_TURN_TRANSPORTS)}"
        )
    Policy.parse(result["e2e-policy"])
    if result["register"]:
        # Pretending would end in a wrong password.
        raise NotImplementedByUs(
            "This program does not register accounts: register with the server, then leave the"
            " parameter register out"
        )
