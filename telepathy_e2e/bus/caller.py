"""Who is calling, and what he may do: asked for every method call, before anything else happens.

A session bus lets in one user's programs and nobody else's; what is left to decide is little. Any
of them may call what Telepathy specifies, as it says itself: handlers, observers and approvers come
and go. Calls that decide whether a contact is trusted leave a trace of who made them, so that a
log tells a person's answer from a program's.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any, Final

from telepathy_e2e.errors import PermissionDenied
from telepathy_e2e.service import names

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Call:
    """One method call.

    Args:
        sender: unique name of who calls.
        body: the arguments as D-Bus types them; never logged, passwords are among them.
    """

    sender: str
    path: str
    interface: str
    member: str
    signature: str
    body: list[Any] = field(repr=False)
    _after: list[Callable[[], None]] = field(default_factory=list, repr=False)
    _finished: bool = False

    def after_reply(self, what: Callable[[], None]) -> None:
        """Do something as soon as the reply is out, or now if it is."""
        if self._finished:
            what()
        else:
            self._after.append(what)

    def finish(self) -> None:
        """The reply, good or bad, is out: do what was put off until then."""
        self._finished = True
        after, self._after = self._after, []
        for each in after:
            each()


class Right(Enum):
    """What it takes to call a method."""

    ANYBODY = auto()
    """To be on the bus."""
    ANSWER = auto()
    """The same; and it is an answer about trust, so it is logged who gave it."""


# (interface, member); what is not here is for anybody.
RIGHTS: Final[dict[tuple[str, str], Right]] = {
    (interface, member): Right.ANSWER
    for interface, members in (
        (
            names.PEER_VERIFICATION,
            ("ConfirmSAS", "StartPassword", "Accept", "ProceedUnverified", "Reject"),
        ),
        (names.CERTIFICATE_REQUEST, ("Provide", "UseOwn")),
        (names.TLS_CERTIFICATE, ("Accept", "Reject")),
        (
            names.SASL_AUTHENTICATION,
            ("StartMechanism", "StartMechanismWithData", "AcceptSASL", "AbortSASL"),
        ),
    )
    for member in members
}

_current: ContextVar[Call | None] = ContextVar("call", default=None)


@contextmanager
def calling(call: Call) -> Iterator[None]:
    """Inside, and in tasks started inside even after its reply, ``current()`` is this call."""
    token = _current.set(call)
    try:
        yield
    finally:
        _current.reset(token)


def current() -> Call | None:
    """The call that is being answered; None where something else made us act."""
    return _current.get()


def after_reply(what: Callable[[], None]) -> None:
    """Do something as soon as the reply to the current call is out; now, if none is due.

    For what makes no sense to the caller before he has the reply.
    """
    call = _current.get()
    if call is None:
        what()
    else:
        call.after_reply(what)


def check(call: Call) -> None:
    """Whether the caller may do this.

    Raises:
        PermissionDenied: he may not.
    """
    if not call.sender:
        # Only a message that did not come through a bus has none, and nobody vouches for it.
        raise PermissionDenied("Calls are taken from a message bus only")
    if RIGHTS.get((call.interface, call.member), Right.ANYBODY) is Right.ANSWER:
        log.info("%s %s by %s", call.path, call.member, call.sender)
