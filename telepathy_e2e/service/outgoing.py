"""What a client wants to send: parts checked, and made into one text (Messages.SendMessage)."""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from telepathy_e2e.errors import InvalidArgument
from telepathy_e2e.service.messages import ACTION, NORMAL, NOTICE

# Bytes of a text as it is sent. Servers take stanzas of at least 10,000 bytes (RFC 6120 section
# 13.12), commonly 262,144, and end the whole connection over a longer one.
MAX_SENT_BYTES: Final = 200_000
MAX_PARTS: Final = 64
MAX_TOKEN: Final = 1_024

SENT_KINDS: Final = (NORMAL, ACTION, NOTICE)

_ME: Final = "/me "
# "This MUST NOT include the following headers"
_NOT_FOR_CLIENTS = (
    "message-sender",
    "message-sender-id",
    "message-sent",
    "message-received",
    "pending-message-id",
)
_UNSENDABLE = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A message to send.

    Attributes:
        kind: Channel_Text_Message_Type, one of ``SENT_KINDS``.
        text: without what XML cannot carry.
        supersedes: token of the message that it corrects, or empty.
    """

    kind: int
    text: str
    supersedes: str = ""

    @property
    def body(self) -> str:
        """The text on the wire."""
        return _ME + self.text if self.kind == ACTION else self.text


def parse(parts: Sequence[Mapping[str, object]]) -> Outgoing:
    """Check a message.

    Raises:
        InvalidArgument: not one that can be sent, and why.
    """
    if not 2 <= len(parts) <= MAX_PARTS:
        raise InvalidArgument("A message is a part with headers, and one with a text")
    header = parts[0]
    for name in _NOT_FOR_CLIENTS:
        if name in header:
            raise InvalidArgument(f"The header {name} is not for clients to give")
    kind = header.get("message-type", NORMAL)
    if kind not in SENT_KINDS or not isinstance(kind, int) or isinstance(kind, bool):
        raise InvalidArgument("Messages of this message-type cannot be sent")
    supersedes = header.get("supersedes", "")
    if not isinstance(supersedes, str) or len(supersedes) > MAX_TOKEN:
        raise InvalidArgument("supersedes is the token of a message")
    # Servers turn each line end into one character; MessageSent shows what others will see.
    text = _text(parts[1:]).replace("\r\n", "\n").replace("\r", "\n")
    text = _UNSENDABLE.sub("", text)
    if not text:
        raise InvalidArgument("There is no text in this message that can be sent")
    if len(text) > MAX_SENT_BYTES or _wire_bytes(text) > MAX_SENT_BYTES:
        raise InvalidArgument(f"The message is longer than {MAX_SENT_BYTES} bytes")
    return Outgoing(kind, text, _UNSENDABLE.sub("", supersedes))


def _text(parts: Sequence[Mapping[str, object]]) -> str:
    """The one text; of alternatives the first that is plain."""
    texts: dict[object, str] = {}
    groups: set[object] = set()
    for number, part in enumerate(parts):
        content_type, content = part.get("content-type"), part.get("content")
        if not isinstance(content_type, str):
            continue  # "reserved for future expansion"
        alternative = part.get("alternative")
        group: object = alternative if isinstance(alternative, str) and alternative else number
        groups.add(group)
        if content_type.lower() == "text/plain" and group not in texts:
            if not isinstance(content, str):
                raise InvalidArgument("The content of a text/plain part is a string")
            texts[group] = content
    if len(groups) != 1 or len(texts) != 1:
        raise InvalidArgument("A message has one text of type text/plain, and nothing attached")
    return next(iter(texts.values()))


def _wire_bytes(text: str) -> int:
    escaped = text.replace("&", "&amp;").replace("<", "&lt;")
    return len(escaped.replace(">", "&gt;").encode())


def received(body: str, *, notice: bool = False) -> tuple[int, str]:
    """(Channel_Text_Message_Type, text) of a body.

    Args:
        notice: it is not part of a conversation (type ``normal``).
    """
    if body.startswith(_ME):
        return ACTION, body[len(_ME) :]
    return (NOTICE if notice else NORMAL), body


def new_token() -> str:
    """An id that nobody can guess: a receipt for it comes from somebody who got the message."""
    return secrets.token_urlsafe(12)
