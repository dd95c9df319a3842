"""Channel requests: what may be asked for, of whatever type (Requests.CreateChannel)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from telepathy_e2e.errors import InvalidArgument, InvalidHandle, NotImplementedByUs
from telepathy_e2e.service import names
from telepathy_e2e.service.capabilities import ChannelClass
from telepathy_e2e.service.handles import HANDLE_TYPE_NONE, Handles
from telepathy_e2e.trust.policy import Demands

_CHANNEL = names.CHANNEL + "."
CHANNEL_TYPE = _CHANNEL + "ChannelType"
TARGET_HANDLE_TYPE = _CHANNEL + "TargetHandleType"
TARGET_HANDLE = _CHANNEL + "TargetHandle"
TARGET_ID = _CHANNEL + "TargetID"
REQUESTED = _CHANNEL + "Requested"
REPLACES = names.END_TO_END_SECURITY + ".Replaces"


@dataclass(frozen=True)
class ChannelRequest:
    """A request that some channel class allows.

    Attributes:
        handle: of the target; 0 with target type none.
        properties: as asked for, qualified name to plain value.
    """

    channel_type: str
    target_type: int
    handle: int
    properties: Mapping[str, object]


def parse(
    request: Mapping[str, object], classes: Iterable[ChannelClass], handles: Handles
) -> ChannelRequest:
    """Check a request; it has no side-effects but a new handle.

    Args:
        request: qualified property name to plain value; types are checked by the bus layer.
        classes: what may be requested.
    Raises:
        NotImplementedByUs: a channel type, target or property that this program does not know.
        InvalidArgument, InvalidHandle: one that it knows, with a value that makes no sense.
    """
    of_type = [each for each in classes if each[0][CHANNEL_TYPE] == request.get(CHANNEL_TYPE)]
    if not of_type:
        raise NotImplementedByUs("Channels of this type cannot be requested")
    # A request that names no target type means the one that the type has.
    target_type = request.get(TARGET_HANDLE_TYPE, of_type[0][0].get(TARGET_HANDLE_TYPE, 0))
    fitting = [each for each in of_type if each[0].get(TARGET_HANDLE_TYPE, 0) == target_type]
    if not fitting or not isinstance(target_type, int):
        raise NotImplementedByUs(
            "Channels of this type cannot be requested with this TargetHandleType"
        )
    known = {REQUESTED}.union(*({*fixed, *allowed} for fixed, allowed in fitting))
    for name in request:
        if name not in known:
            raise NotImplementedByUs(f"The property {name} cannot be requested")
    if request.get(REQUESTED, True) is not True:
        raise InvalidArgument("A requested channel has Requested=true")
    channel_type = str(request[CHANNEL_TYPE])
    return ChannelRequest(
        channel_type, target_type, _target(request, target_type, handles), dict(request)
    )


def _target(request: Mapping[str, object], target_type: int, handles: Handles) -> int:
    handle, identifier = request.get(TARGET_HANDLE), request.get(TARGET_ID)
    if target_type == HANDLE_TYPE_NONE:
        if handle or identifier:
            raise InvalidArgument("A channel with TargetHandleType 0 has no target")
        return 0
    if handle is not None and identifier is not None:
        raise InvalidArgument("Give TargetHandle or TargetID, not both")
    if isinstance(identifier, str):
        return handles.ensure(identifier, target_type)
    if isinstance(handle, int):
        handles.inspect(handle, target_type)
        return handle
    raise InvalidHandle("Say whom the channel is for: TargetHandle or TargetID")


def demands(properties: Mapping[str, object]) -> Demands:
    """What a request asks the channel to guarantee (EndToEndSecurity1, Securable)."""

    def asked(*keys: str) -> bool:
        return any(properties.get(key) is True for key in keys)

    verified = asked(names.END_TO_END_SECURITY + ".RequireVerified", names.SECURABLE + ".Verified")
    encrypted = asked(
        names.END_TO_END_SECURITY + ".RequireEncrypted", names.SECURABLE + ".Encrypted"
    )
    return Demands(encrypted=encrypted or verified, verified=verified)


def replaces(properties: Mapping[str, object]) -> str:
    """Object path of the channel that the requested one shall take over from, or ``/``."""
    return str(properties.get(REPLACES, "/"))
