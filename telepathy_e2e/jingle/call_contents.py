"""The contents of a call: which there are, who may do what to each, who sends."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from telepathy_e2e.errors import NotAvailable, PeerError
from telepathy_e2e.role import Role

from .base import tag_of
from .events import ContentKey
from .stanzas import Action, Content
from .states import CONTENT_MOVES, ContentState, Side, TransportState
from .transports import TransportAgreement

# A voice, a face, a screen, from each side, and two to spare. Each costs a decoder or an encoder.
MAX_CONTENTS: Final = 8

# Contents that are no more and may still be named in stanzas on their way; of older ones nobody
# hears. A peer can make and end as many as it likes.
MAX_GONE: Final = 64

_SENDERS: Final = {
    "both": frozenset(Role),
    "initiator": frozenset((Role.INITIATOR,)),
    "none": frozenset[Role](),
    "responder": frozenset((Role.RESPONDER,)),
}
_WORDS: Final = {who: word for word, who in _SENDERS.items()}


@dataclass(frozen=True)
class CallContent:
    """One content as it is now."""

    key: ContentKey
    state: ContentState
    senders: str
    """As we last said or heard: ``both``, ``initiator``, ``none`` or ``responder``."""
    transport_state: TransportState
    content: Content
    """As it was offered."""


class Entry:
    """One content that is there.

    Args:
        role: ours.
        initial: it is of the session-initiate.
    """

    def __init__(self, role: Role, content: Content, *, initial: bool) -> None:
        self.key = key_of(content)
        self.content = content
        self.initial = initial
        self.state = ContentState.PENDING
        self.transport = TransportAgreement(role, tag_of(content.transport))
        self.unanswered_add = False
        # What both sides know, and what we have said since and is not answered yet.
        self._senders = content.senders or "both"
        self._before = self._senders
        self._said: list[str] = []
        # Changes of ours that the peer's has overruled, and whose refusal is to come.
        self._overruled = 0

    def after(self, who: Role, action: Action) -> ContentState | None:
        """The state that follows when ``who`` sends this; None: it cannot."""
        side = Side.CREATOR if who == self.key[0] else Side.OTHER
        return CONTENT_MOVES.get((self.state, side, action))

    def view(self) -> CallContent:
        """As it is now."""
        return CallContent(self.key, self.state, self.senders, self.transport.state, self.content)

    @property
    def senders(self) -> str:
        return self._said[-1] if self._said else self._senders

    @property
    def is_modifying(self) -> bool:
        """Whether a content-modify of ours is not answered yet."""
        return bool(self._said)

    def agree(self, senders: str | None) -> None:
        """It was accepted, with this ``senders``: an answer may only narrow what was offered.

        One without the attribute means no change: clients leave it out, and its default would
        turn a camera on.
        """
        self.state = ContentState.AGREED
        if senders is None:
            return
        self._senders = _narrow(self._senders, senders)
        if self.content.creator != self.transport.role:
            # Our answer: what we had said before it is narrowed with it. As the one who is
            # answered, what we have said since the offer comes after the answer and stands.
            self._said = [_narrow(each, senders) for each in self._said]

    def modify(self, senders: str) -> None:
        """We say who sends from now on."""
        self._said.append(senders)

    def modify_answered(self, *, taken: bool) -> None:
        """The peer answered the oldest content-modify of ours."""
        if self._overruled:
            self._overruled -= 1
        elif self._said:
            senders = self._said.pop(0)
            if taken:
                self._senders = senders

    def modified(self, senders: str) -> None:
        """The peer says so; what we have said and it had not read then is void."""
        self._before = self._senders
        self._overruled += len(self._said)
        self._said.clear()
        self._senders = senders

    def modified_declined(self) -> None:
        """We answered the peer's content-modify with an error."""
        self._senders = self._before


class ContentTable:
    """All contents of a call.

    Args:
        role: ours.
    """

    def __init__(self, role: Role) -> None:
        self._role = role
        self._entries: dict[ContentKey, Entry] = {}
        self._gone: dict[ContentKey, None] = {}  # oldest first
        self._own_names: set[str] = set()

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Entry]:
        return iter(list(self._entries.values()))

    def copy(self) -> ContentTable:
        """Another table of the same entries."""
        table = ContentTable(self._role)
        table._entries.update(self._entries)
        table._gone.update(self._gone)
        table._own_names.update(self._own_names)
        return table

    def get(self, key: ContentKey) -> Entry | None:
        return self._entries.get(key)

    def was(self, key: ContentKey) -> bool:
        """Whether it was there until not long ago."""
        return key in self._gone

    def add_own(self, content: Content, *, initial: bool) -> None:
        """Raises: NotAvailable: too many; ValueError: not a new content of ours."""
        if content.creator != self._role or content.description is None:
            raise ValueError("an offer is its creator's and has a description")
        if content.name in self._own_names:
            # A stanza about the former on its way would be taken for one about this.
            raise ValueError("this name is in use, or was")
        if len(self._entries) >= MAX_CONTENTS:
            raise NotAvailable("A call cannot have more contents")
        entry = Entry(self._role, content, initial=initial)
        entry.unanswered_add = not initial
        self._entries[entry.key] = entry
        self._own_names.add(content.name)

    def add_theirs(self, content: Content, *, initial: bool) -> None:
        """Raises: PeerError: too many, or not a new content of theirs."""
        key = key_of(content)
        if content.creator != self._role.other or key in self._entries:
            raise PeerError("an offered content has a wrong creator or a name in use")
        if content.description is None or content.transport is None:
            raise PeerError("a content is offered without description or transport")
        if len(self._entries) >= MAX_CONTENTS:
            raise PeerError("more contents than a call may have", "resource-constraint")
        self._gone.pop(key, None)
        self._entries[key] = Entry(self._role, content, initial=initial)

    def remove(self, key: ContentKey) -> None:
        del self._entries[key]
        self.forget(key)

    def forget(self, key: ContentKey) -> None:
        """Something that is not there: what is still said of it means nothing."""
        if key in self._entries:
            return
        self._gone.pop(key, None)
        self._gone[key] = None
        if len(self._gone) > MAX_GONE:
            del self._gone[next(iter(self._gone))]

    def adds_alike(self, theirs: Content) -> bool:
        """Whether we have just offered to add the same, and theirs crossed it (section 7.2.16)."""
        return any(
            entry.unanswered_add
            and entry.state is ContentState.PENDING
            and _kind(entry.content) == _kind(theirs)
            for entry in self._entries.values()
        )


def key_of(content: Content) -> ContentKey:
    """Creator and name."""
    return content.creator, content.name


def _kind(content: Content) -> tuple[str, str | None]:
    """The application, and of media which."""
    if content.description is None:
        return "", None
    return content.description.tag, content.description.get("media")


def _narrow(offered: str, answered: str) -> str:
    return _WORDS[_SENDERS[offered] & _SENDERS[answered]]
