"""Stream management (XEP-0198): what the server has not confirmed, what we have seen. Pure.

It outlives a stream: when a connection breaks, what was not acknowledged waits here until another
one resumes the session, or the session is given up and somebody tells the user what was lost.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from xml.etree.ElementTree import Element

from telepathy_e2e.errors import ConnectionLost, PeerError

SM = "urn:xmpp:sm:3"

# Stanzas between two requests for an acknowledgement, when nobody waits for one: often enough that
# little is sent again after a break, and a packet in a hundred.
REQUEST_EVERY = 20
# Stanzas, and characters of text in them, that the server may leave unacknowledged. In-band streams
# keep some 1 MB on the way; a server further behind than this does not do what it agreed to.
MAX_UNACKNOWLEDGED = 5_000
MAX_UNACKNOWLEDGED_TEXT = 16 * 1024 * 1024
# Seconds for which we try to get a session back, whatever the server would allow: after that,
# people should see that they are offline.
MAX_RESUME_SECONDS = 300.0

_MODULUS = 2**32
_STANZAS = frozenset(f"{{jabber:client}}{name}" for name in ("iq", "message", "presence"))


@dataclass(frozen=True)
class _Sent:
    stanza: Element
    size: int


class StreamManagement:
    """One session's counters, from ``enabled`` on, over all the streams that carry it."""

    def __init__(self) -> None:
        self._enabling = False
        self._enabled = False
        self._id = ""
        self._seconds = 0.0
        self._handled = 0
        self._acknowledged = 0
        self._unacknowledged: deque[_Sent] = deque()
        self._text = 0
        self._since_request = 0
        self._awaiting = False

    # -- what the stream sends --------------------------------------------------------------

    def enable(self) -> Element:
        """``<enable/>``, sent once the resource is bound: from here on stanzas are counted."""
        self._enabling = True
        return Element(f"{{{SM}}}enable", resume="true")

    def resume(self) -> Element:
        """``<resume/>`` for a new stream, instead of binding a resource."""
        self._awaiting = False
        return Element(f"{{{SM}}}resume", previd=self._id, h=str(self._handled))

    @property
    def resumable(self) -> bool:
        """Whether the server keeps the session for us when the connection breaks."""
        return self._enabled and bool(self._id)

    @property
    def seconds(self) -> float:
        """For how long it does, as far as we are interested."""
        return self._seconds

    def sent(self, stanza: Element) -> Element | None:
        """A stanza goes out, or would if there were a connection; what to send after it.

        Raises:
            ConnectionLost: the server owes us too many acknowledgements.
        """
        if not (self._enabling or self._enabled) or stanza.tag not in _STANZAS:
            return None
        size = sum(len(text) for text in stanza.itertext())
        self._unacknowledged.append(_Sent(stanza, size))
        self._text += size
        if len(self._unacknowledged) > MAX_UNACKNOWLEDGED or self._text > MAX_UNACKNOWLEDGED_TEXT:
            raise ConnectionLost("The server does not confirm what it received")
        self._since_request += 1
        # Messages are what people want to know the fate of.
        wanted = self._since_request >= REQUEST_EVERY or stanza.tag.endswith("}message")
        return self.request() if wanted else None

    def request(self) -> Element | None:
        """``<r/>``, unless the answer to one is still to come."""
        if not self._enabled or self._awaiting:
            return None
        self._awaiting = True
        self._since_request = 0
        return Element(f"{{{SM}}}r")

    # -- what arrives -----------------------------------------------------------------------

    def handled(self) -> None:
        """A stanza arrived and was looked at."""
        if self._enabled:
            self._handled = (self._handled + 1) % _MODULUS

    def receive(self, element: Element) -> Element | None:
        """An element of stream management on an open stream; the answer to it, if one is due.

        Raises:
            PeerError: it makes no sense.
        """
        match element.tag.rpartition("}")[2]:
            case "enabled" if self._enabling:
                self._enabling = False
                self._enabled = True
                if element.get("resume") in ("true", "1"):
                    self._id = element.get("id", "")
                    self._seconds = min(_number(element.get("max")) or MAX_RESUME_SECONDS,
                                        MAX_RESUME_SECONDS)  # fmt: skip
                # What was sent meanwhile is counted but was never asked about.
                return self.request() if self._unacknowledged else None
            case "failed" if self._enabling:
                self._enabling = False
                self._forget()
                return None
            case "r" if self._enabled:
                return Element(f"{{{SM}}}a", h=str(self._handled))
            case "a" if self._enabled:
                self._awaiting = False
                self._acknowledge(element.get("h"))
                # More has gone out since: an idle stream must not leave it open for ever.
                return self.request() if self._unacknowledged else None
            case _:
                return None

    def resumed(self, element: Element) -> list[Element]:
        """``<resumed/>``: the session goes on; what has to be sent again, in order.

        Raises:
            PeerError: it is another session, or the count makes no sense.
        """
        if element.get("previd") != self._id:
            raise PeerError("the server resumed another session", "undefined-condition")
        self._acknowledge(element.get("h"))
        return [each.stanza for each in self._unacknowledged]

    def lost(self, element: Element | None = None) -> list[Element]:
        """The session is over for good: what the server never confirmed, in order.

        Args:
            element: the ``<failed/>`` that ended it, which may say how far the server had come.
        """
        if element is not None and element.get("h") is not None:
            try:
                self._acknowledge(element.get("h"))
            except PeerError:
                pass  # then it is not known, and all counts as lost
        lost = [each.stanza for each in self._unacknowledged]
        self._enabled = self._enabling = False
        self._forget()
        return lost

    def _forget(self) -> None:
        self._id = ""
        self._unacknowledged.clear()
        self._text = 0

    def _acknowledge(self, text: str | None) -> None:
        count = _number(text)
        if count is None or count >= _MODULUS:
            raise PeerError("the server counts wrongly", "undefined-condition")
        news = (count - self._acknowledged) % _MODULUS
        # Too high, or lower than before: either way one of us is wrong about what arrived.
        if news > len(self._unacknowledged):
            raise PeerError("the server confirms what was never sent", "undefined-condition")
        for _ in range(news):
            self._text -= self._unacknowledged.popleft().size
        self._acknowledged = count


def _number(text: str | None) -> int | None:
    """An unsigned number, None if it is not one."""
    if text is None or not (text.isascii() and text.isdigit()) or len(text) > 10:
        return None
    return int(text)
