"""What a peer's stanza means for contents of a call, one by one; ``call_session`` asks them.

Each takes the contents that there are, with what the stanza says of them.
"""

from __future__ import annotations

from telepathy_e2e.errors import PeerError

from .base import tag_of
from .call_contents import Entry
from .events import (
    CallTransportInfo,
    CallTransportReplaced,
    CallTransportReplaceOffered,
    CallTransportReplaceRejected,
    DescriptionInfo,
    Event,
    Ignored,
)
from .stanzas import Action, Content


def check_answer(entry: Entry, content: Content) -> None:
    """Raises: PeerError: not an answer to what we offered."""
    if content.transport is None or content.transport.tag != entry.transport.tag:
        raise PeerError("the answer has a transport that was not offered")
    offered = entry.content.description
    if content.description is not None and content.description.tag != tag_of(offered):
        raise PeerError("the answer has an application that was not offered")


def described(known: list[tuple[Entry, Content]]) -> list[Event]:
    """description-info. Raises: PeerError: of another application, or of none."""
    events: list[Event] = []
    for entry, content in known:
        if content.description is None:
            raise PeerError("description-info without a description")
        if content.description.tag != tag_of(entry.content.description):
            raise PeerError("description-info of another application")
        events.append(DescriptionInfo(entry.key, content.description))
    return events


def transport_info(known: list[tuple[Entry, Content]]) -> list[Event]:
    """transport-info; late news of a transport that has been replaced are ignored."""
    events: list[Event] = []
    for entry, content in known:
        transport = content.transport
        if transport is None or not entry.transport.knows(transport):
            events.append(Ignored(Action.TRANSPORT_INFO, "not the transport in use"))
        else:
            events.append(CallTransportInfo(entry.key, transport))
    return events


def transport_changed(action: Action, known: list[tuple[Entry, Content]]) -> list[Event]:
    """transport-replace and its answers. Raises: PeerError: nothing has changed."""
    for entry, content in known:
        entry.transport.check(action, content.transport)
    events: list[Event] = []
    for entry, content in known:
        transport = content.transport
        entry.transport.take(action, transport)
        if transport is None or action is Action.TRANSPORT_REJECT:
            events.append(CallTransportReplaceRejected(entry.key))
        elif action is Action.TRANSPORT_REPLACE:
            events.append(CallTransportReplaceOffered(entry.key, transport))
        else:
            events.append(CallTransportReplaced(entry.key, transport))
    return events
