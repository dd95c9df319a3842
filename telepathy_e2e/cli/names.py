"""The D-Bus names and numbers of the Telepathy specification that tpe2e uses."""

from __future__ import annotations

from enum import IntEnum
from typing import Final

TP: Final = "org.freedesktop.Telepathy."
CM_NAME: Final = TP + "ConnectionManager.e2e"
CM_PATH: Final = "/org/freedesktop/Telepathy/ConnectionManager/e2e"
CM: Final = TP + "ConnectionManager"
AGENT: Final = TP + "E2E.KeyAgent"
AGENT_PATH: Final = "/org/freedesktop/Telepathy/E2E/KeyAgent"
AGENT_INTERFACE: Final = AGENT + "1"
PROTOCOL: Final = "jabber"
CONNECTION_PREFIX: Final = TP + "Connection.e2e."

CONNECTION: Final = TP + "Connection"
REQUESTS: Final = CONNECTION + ".Interface.Requests"
CONTACTS: Final = CONNECTION + ".Interface.Contacts"
CONTACT_LIST: Final = CONNECTION + ".Interface.ContactList"
CONTACT_CAPABILITIES: Final = CONNECTION + ".Interface.ContactCapabilities"
SIMPLE_PRESENCE: Final = CONNECTION + ".Interface.SimplePresence"

CHANNEL: Final = TP + "Channel"
FILE_TRANSFER: Final = CHANNEL + ".Type.FileTransfer"
PEER_VERIFICATION: Final = CHANNEL + ".Type.PeerVerification1"
CALL: Final = CHANNEL + ".Type.Call1"
CALL_MEDIA: Final = CHANNEL + ".Interface.CallMedia1"
STREAM_TUBE: Final = CHANNEL + ".Type.StreamTube"
DBUS_TUBE: Final = CHANNEL + ".Type.DBusTube"
TUBE: Final = CHANNEL + ".Interface.Tube"
HOLD: Final = CHANNEL + ".Interface.Hold"
CALL_MUTE: Final = TP + "Call1.Interface.Mute"
CALL_CONTENT: Final = TP + "Call1.Content"
CALL_DTMF: Final = CALL_CONTENT + ".Interface.DTMF"
SERVER_TLS: Final = CHANNEL + ".Type.ServerTLSConnection"
SECURABLE: Final = CHANNEL + ".Interface.Securable"
SECURITY: Final = CHANNEL + ".Interface.EndToEndSecurity1"
TLS_CERTIFICATE: Final = TP + "Authentication.TLSCertificate"

# Our names in UpdateCapabilities. Each command has its own, and the same in every run: a run that
# was killed and could not take its announcement back is healed by the next one.
CLIENT: Final = TP + "Client.tpe2e"

HANDLE_TYPE_CONTACT: Final = 1

# Connection_Status
CONNECTED: Final = 0
CONNECTING: Final = 1
DISCONNECTED: Final = 2
CONNECTION_STATUS: Final = {
    CONNECTED: "connected",
    CONNECTING: "connecting",
    DISCONNECTED: "disconnected",
}

# File_Transfer_State
PENDING: Final = 1
ACCEPTED: Final = 2
OPEN: Final = 3
COMPLETED: Final = 4
CANCELLED: Final = 5
TRANSFER_STATE: Final = {
    PENDING: "pending",
    ACCEPTED: "accepted",
    OPEN: "open",
    COMPLETED: "completed",
    CANCELLED: "cancelled",
}

# File_Transfer_State_Change_Reason
LOCAL_STOPPED: Final = 2
REMOTE_STOPPED: Final = 3

HASH_NONE: Final = 0
HASH_SHA256: Final = 3
UNKNOWN_SIZE: Final = 2**64 - 1

# Socket_Address_Type and Socket_Access_Control
UNIX: Final = 0
ABSTRACT_UNIX: Final = 1
IPV4: Final = 2
IPV6: Final = 3
LOCALHOST: Final = 0
CREDENTIALS: Final = 3


class TubeState(IntEnum):
    """Tube_Channel_State."""

    LOCAL_PENDING = 0
    REMOTE_PENDING = 1
    OPEN = 2
    NOT_OFFERED = 3


TUBE_STATE: Final[dict[int, str]] = {
    TubeState.LOCAL_PENDING: "waits for your answer",
    TubeState.REMOTE_PENDING: "waits for an answer",
    TubeState.OPEN: "open",
    TubeState.NOT_OFFERED: "not offered",
}


class CallState(IntEnum):
    """Call_State."""

    UNKNOWN = 0
    PENDING_INITIATOR = 1
    INITIALISING = 2
    INITIALISED = 3
    ACCEPTED = 4
    ACTIVE = 5
    ENDED = 6


CALL_STATE: Final = {
    CallState.PENDING_INITIATOR: "not placed",
    CallState.INITIALISING: "calling",
    CallState.INITIALISED: "ringing",
    CallState.ACCEPTED: "connecting",
    CallState.ACTIVE: "talking",
    CallState.ENDED: "ended",
}


class CallReason(IntEnum):
    """Call_State_Change_Reason."""

    UNKNOWN = 0
    PROGRESS_MADE = 1
    USER_REQUESTED = 2
    FORWARDED = 3
    REJECTED = 4
    NO_ANSWER = 5
    INVALID_CONTACT = 6
    PERMISSION_DENIED = 7
    BUSY = 8
    INTERNAL_ERROR = 9
    SERVICE_ERROR = 10
    NETWORK_ERROR = 11
    MEDIA_ERROR = 12
    CONNECTIVITY_ERROR = 13


# Call_Flags, Call_Member_Flags and Local_Mute_State
LOCALLY_HELD: Final = 1
MEMBER_RINGING: Final = 1
MEMBER_HELD: Final = 2
MUTED: Final = 1

# Media_Stream_Type
AUDIO: Final = 0
