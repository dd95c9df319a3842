"""What can come out of a session: events, and the errors that answer a peer's stanza."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias
from xml.etree.ElementTree import Element

from telepathy_e2e.errors import PeerError

from .stanzas import Action, Content, Jingle, Reason


@dataclass(frozen=True)
class Initiated:
    """The peer offered; its user's answer is awaited from ours."""

    content: Content


@dataclass(frozen=True)
class Accepted:
    """The peer took our offer."""

    content: Content
    """As the peer sent it; stanza.js may leave out the description."""


@dataclass(frozen=True)
class Terminated:
    """The peer ended the session; nothing may be sent in it any more."""

    reason: Reason
    """``general-error`` when it gave none: silence is not success."""


@dataclass(frozen=True)
class TransportInfo:
    """Candidates and the like for the transport that is in use or offered."""

    transport: Element


@dataclass(frozen=True)
class TransportReplaceOffered:
    """To be answered with ``transport_accept`` or ``transport_reject``.

    An own offer that was still unanswered is void: the initiator's counts.
    """

    transport: Element


@dataclass(frozen=True)
class TransportReplaced:
    """The peer accepted our transport-replace."""

    transport: Element


@dataclass(frozen=True)
class TransportReplaceRejected:
    """The peer refused our transport-replace; the old transport stands."""


@dataclass(frozen=True)
class SessionInfo:
    """Whoever does not know the payload raises ``unsupported_info()``."""

    payload: tuple[Element, ...]


@dataclass(frozen=True)
class SecurityInfo:
    """What came in a security-info: beside its contents, and in them."""

    payload: tuple[Element, ...]
    contents: tuple[Content, ...] = ()


@dataclass(frozen=True)
class Send:
    """Command: send this stanza, which the standard demands; no answer to it matters."""

    jingle: Jingle


@dataclass(frozen=True)
class Ignored:
    """Acknowledged and without effect."""

    action: Action
    why: str


ContentKey: TypeAlias = tuple[str, str]
"""(creator, name): of a content; together unique in a session (XEP-0166 section 7.3)."""


@dataclass(frozen=True)
class CallInitiated:
    """The peer calls; its user's answer is awaited from ours."""

    contents: tuple[Content, ...]
    payload: tuple[Element, ...] = ()
    """What came beside them, such as ``<group/>``."""


@dataclass(frozen=True)
class CallAccepted:
    """The peer took our call."""

    contents: tuple[Content, ...]
    """Those that it takes."""
    payload: tuple[Element, ...] = ()


@dataclass(frozen=True)
class ContentAdded:
    """To be answered with ``content_accept`` or ``content_reject``."""

    content: Content
    payload: tuple[Element, ...] = ()


@dataclass(frozen=True)
class ContentAccepted:
    """The peer takes a content that we added."""

    content: Content
    payload: tuple[Element, ...] = ()


@dataclass(frozen=True)
class ContentRejected:
    """The peer does not take a content that we offered; it is no more."""

    key: ContentKey
    reason: Reason


@dataclass(frozen=True)
class ContentRemoved:
    """The peer took a content away; it is no more."""

    key: ContentKey
    reason: Reason


@dataclass(frozen=True)
class ContentModified:
    """Who sends in a content has changed."""

    key: ContentKey
    senders: str
    """``both``, ``initiator``, ``none`` or ``responder``."""


@dataclass(frozen=True)
class DescriptionInfo:
    """News of an application, such as other parameters of an encoding."""

    key: ContentKey
    description: Element


@dataclass(frozen=True)
class CallTransportInfo:
    """As ``TransportInfo``, for one content of a call."""

    key: ContentKey
    transport: Element


@dataclass(frozen=True)
class CallTransportReplaceOffered:
    """As ``TransportReplaceOffered``; ICE is restarted so, too."""

    key: ContentKey
    transport: Element


@dataclass(frozen=True)
class CallTransportReplaced:
    """As ``TransportReplaced``."""

    key: ContentKey
    transport: Element


@dataclass(frozen=True)
class CallTransportReplaceRejected:
    """As ``TransportReplaceRejected``."""

    key: ContentKey


Event: TypeAlias = (
    Initiated
    | Accepted
    | Terminated
    | TransportInfo
    | TransportReplaceOffered
    | TransportReplaced
    | TransportReplaceRejected
    | SessionInfo
    | SecurityInfo
    | Send
    | Ignored
    | CallInitiated
    | CallAccepted
    | ContentAdded
    | ContentAccepted
    | ContentRejected
    | ContentRemoved
    | ContentModified
    | DescriptionInfo
    | CallTransportInfo
    | CallTransportReplaceOffered
    | CallTransportReplaced
    | CallTransportReplaceRejected
)


def unsupported_info() -> PeerError:
    """The answer to an informational payload that nobody knows (XEP-0166 section 6.8)."""
    return PeerError("unknown payload", "feature-not-implemented", jingle="unsupported-info")


def unknown_session() -> PeerError:
    """The answer to a stanza for no session, or for one that is over (sections 6.7, 10)."""
    return PeerError("no such session", "item-not-found", jingle="unknown-session")


def out_of_order(action: Action) -> PeerError:
    """The answer to a stanza that cannot come in this state (section 10)."""
    return PeerError(f"{action} in the wrong state", "unexpected-request", jingle="out-of-order")


def tie_break() -> PeerError:
    """The answer to the action that lost against ours (section 7.2.16)."""
    return PeerError("two like actions crossed", "conflict", jingle="tie-break")
