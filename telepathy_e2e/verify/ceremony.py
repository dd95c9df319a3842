"""The verification ceremonies of one epoch of one session (xtls-wire, section 5).

``Ceremonies`` knows what all methods share: that one runs at a time, who wins when two starts
cross, ids, deadlines, cancelling and tries. What a method does is in its own *run* (``sas_run``,
``pake_run``).
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Collection
from xml.etree.ElementTree import Element

from telepathy_e2e.errors import NotAvailable
from telepathy_e2e.role import Role
from telepathy_e2e.verify import messages, pake
from telepathy_e2e.verify.events import (
    CeremonyEnded,
    Event,
    Outcome,
    PeerStarted,
    PeerVerdict,
    Reported,
    Send,
    StringReady,
    V,
)
from telepathy_e2e.verify.messages import CancelReason, Message, build_verdict
from telepathy_e2e.verify.pake_run import PakeRun
from telepathy_e2e.verify.run import TIMEOUT, Run, Session
from telepathy_e2e.verify.sas_run import SasRun
from telepathy_e2e.verify.tries import ContactTries, Tries

__all__ = [
    "MAX_PEER_STARTS",
    "TIMEOUT",
    "Ceremonies",
    "CeremonyEnded",
    "ContactTries",
    "Event",
    "Outcome",
    "PeerStarted",
    "PeerVerdict",
    "Reported",
    "Send",
    "StringReady",
    "Tries",
    "V",
    "build_verdict",
]

# Each start of the peer's prompts a person and leaves an id to remember, and a start that is
# taken back costs no try. Nobody compares this often in one session.
MAX_PEER_STARTS = 32

# Of our own ids; 16 bytes so that they never meet one of the peer's by chance.
ID_SIZE = 16

_STARTS = {"sas-commit": "sas", "pake-start": "password"}
# With an id that is not running these belong to something that is over here but was not yet there
# when they were sent: no answer, no harm.
_ANSWERS = frozenset(
    {"sas-nonce", "sas-reveal", "sas-result", "pake-reply", "pake-confirm", "cancel"}
)


class Ceremonies:
    """All ceremonies of one epoch of one session, one at a time.

    Args:
        role: ours.
        binding: B of this epoch, 32 bytes.
        initiator_fingerprint, responder_fingerprint: FI and FR, 32 bytes each.
        methods: what both sides can do (both hellos), of ``sas``, ``password``.
        tries: of the session; the same object in each epoch.
        random: fresh random bytes; another one only in tests.

    Every method returns events; ``Send`` is to be sealed and sent in the order of the list. After
    each call ``deadline`` may have changed.
    """

    def __init__(
        self,
        *,
        role: Role,
        binding: bytes,
        initiator_fingerprint: bytes,
        responder_fingerprint: bytes,
        methods: Collection[str],
        tries: Tries,
        random: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        if not len(binding) == len(initiator_fingerprint) == len(responder_fingerprint) == 32:
            raise ValueError("binding and fingerprints have 32 bytes")
        self._session = Session(
            role, binding, initiator_fingerprint, responder_fingerprint, tries, random
        )
        self._methods = frozenset(methods)
        self._run: SasRun | PakeRun | None = None
        self._ids: set[str] = set()
        self._compared: set[str] = set()
        self._peer_starts = 0
        self._rejected = False

    # -- this user ----------------------------------------------------------------------------

    def start_sas(self, now: float) -> list[Event]:
        """Begin, or agree to the other's beginning.

        Raises:
            NotAvailable: the peer cannot do it, one is running, no try is left, or somebody
                has rejected already.
        """
        if expired := self.tick(now):
            return expired
        if "sas" not in self._methods:
            raise NotAvailable("The other side cannot compare short strings")
        run = self._run
        if isinstance(run, SasRun) and run.awaits_agreement:
            return self._after(run.agree(now))
        self._check_free(now)
        self._run = run = SasRun(self._session, self._new_id(), now)
        return self._after(run.begin())

    def start_password(self, secret: str, now: float) -> list[Event]:
        """Begin, or answer the other's beginning, with what both users know.

        Args:
            secret: as typed. It is not kept longer than until it went into the computation; the
                Jingle responder that begins keeps it until the first answer.
        Raises:
            InvalidArgument: empty, or no password (``pake.password_related_string``).
            NotAvailable: the peer cannot do it, one is running, no try is left, or somebody
                has rejected already.
        """
        prs = pake.password_related_string(secret)
        if expired := self.tick(now):
            return expired
        if "password" not in self._methods:
            raise NotAvailable("The other side cannot verify by a shared password")
        run = self._run
        if isinstance(run, PakeRun) and run.awaits_agreement:
            return self._after(run.answer(prs, now))
        self._check_free(now)
        self._run = run = PakeRun(self._session, self._new_id(), now)
        return self._after(run.begin(prs))

    def confirm_sas(self, match: bool, now: float) -> list[Event]:
        """Say whether both users saw the same string.

        Raises:
            NotAvailable: there is no string to compare.
        """
        if expired := self.tick(now):
            return expired
        if not isinstance(self._run, SasRun):
            raise NotAvailable("There is no comparison to answer")
        return self._after(self._run.confirm(match))

    def cancel(self, now: float) -> list[Event]:
        """This user does not want to go on (or to agree). Nothing happens if none runs."""
        return self._stop("cancelled", CancelReason.REFUSED)

    # -- the peer -----------------------------------------------------------------------------

    def receive(self, element: Element, now: float) -> list[Event]:
        """One authentic element in V other than ``<hello/>``.

        Raises:
            PeerError: malformed. Nothing has changed; answer with the error, then call
                ``disturbed``: a message that cannot be read is no better than a lost one.
        """
        message = messages.parse(element)
        if isinstance(message, PeerVerdict):
            return [message]
        if message.id is None:
            return [Reported("A verification message of an unknown kind was ignored")]
        return self.tick(now) + self._receive(message, message.id, now)

    def disturbed(self, why: str, now: float) -> list[Event]:
        """A gap, a repeat, a bad tag or a malformed message: ends what has spent its try.

        Args:
            why: for logs; a word of ours, never the peer's.
        """
        if self._run is None or not self._run.spent:
            return []
        return self._stop(why, CancelReason.ERROR)

    def abandon(self, why: str, now: float) -> list[Event]:
        """The epoch or the session is over: what runs fails, and nothing is sent any more."""
        if self._run is None:
            return []
        return self._after([self._run.end(Outcome.FAILED, why)])

    # -- time ---------------------------------------------------------------------------------

    def deadline(self) -> float | None:
        """When to call ``tick``, or None."""
        return None if self._run is None else self._run.deadline

    def tick(self, now: float) -> list[Event]:
        """Ends a ceremony that took too long."""
        if self._run is None or now < self._run.deadline:
            return []
        return self._stop(CancelReason.TIMEOUT.value, CancelReason.TIMEOUT)

    # -- inside -------------------------------------------------------------------------------

    def _receive(self, message: Message, ceremony: str, now: float) -> list[Event]:
        name, run = message.name, self._run
        if run is not None and ceremony == run.id:
            if name == "cancel":
                return self._cancelled(run, message.reason)
            return self._after(run.receive(message, now))
        if method := _STARTS.get(name):
            return self._started(method, message, ceremony, now)
        if name == "sas-result" and ceremony in self._compared and not message.match:
            return self._rejected_late(ceremony)
        if name in _ANSWERS:
            return []
        return [_refuse(ceremony, CancelReason.ERROR)]

    def _started(self, method: str, message: Message, ceremony: str, now: float) -> list[Event]:
        """The peer began."""
        crossed: SasRun | PakeRun | None = None
        secret: bytes | None = None
        dropped: list[Event] = []
        if self._run is not None:
            if not self._run.ours_unanswered:
                return [_refuse(ceremony, CancelReason.BUSY)]
            if self._session.role is Role.INITIATOR:
                return []  # it crossed ours, and ours counts: the responder drops its own
            crossed = self._run
            secret = crossed.secret if isinstance(crossed, PakeRun) else None
            dropped = self._after([crossed.end(Outcome.FAILED, "crossed")])
        if ceremony in self._ids:
            # One of its own again, or one of ours sent back.
            return [*dropped, _refuse(ceremony, CancelReason.ERROR)]
        known = method in self._methods and message.known_suite
        if not known or not self._may_start(now):
            return [*dropped, _refuse(ceremony, CancelReason.REFUSED)]
        self._ids.add(ceremony)
        self._peer_starts += 1
        kind = SasRun if method == SasRun.method else PakeRun
        self._run = run = kind(self._session, ceremony, now, message.content)
        # This user has asked for the same ceremony himself: that is his agreement, and the
        # password that he gave is his answer. He need not know that the other was faster.
        if isinstance(run, SasRun) and isinstance(crossed, SasRun):
            return self._after(run.agree(now))
        if isinstance(run, PakeRun) and secret is not None:
            return self._after(run.answer(secret, now))
        return [*dropped, PeerStarted(method)]

    def _new_id(self) -> str:
        ceremony = self._session.random(ID_SIZE).hex()
        self._ids.add(ceremony)
        return ceremony

    def _cancelled(self, run: Run, reason: CancelReason) -> list[Event]:
        """The peer gave up. Busy ends nothing that has begun; it only answers a start."""
        if reason is CancelReason.BUSY and not run.ours_unanswered:
            return []
        if reason is CancelReason.WRONG_PASSWORD and not run.spent:
            reason = CancelReason.ERROR  # nobody can know that yet: do not tell this user so
        return self._after([run.end(Outcome.FAILED, reason.value)])

    def _rejected_late(self, ceremony: str) -> list[Event]:
        """The other user looked later than ours and saw something else: his no counts."""
        stopped = self._stop("rejected", CancelReason.REFUSED)
        self._compared.discard(ceremony)
        late = CeremonyEnded(Outcome.REJECTED, SasRun.method, "peer-mismatch", spent=True)
        return stopped + self._after([late])

    def _stop(self, why: str, reason: CancelReason) -> list[Event]:
        """End what runs, if anything does, and tell the peer."""
        run = self._run
        if run is None:
            return []
        return self._after([_refuse(run.id, reason), run.end(Outcome.FAILED, why)])

    def _after(self, events: list[Event]) -> list[Event]:
        """Notes what a run said before it is passed on."""
        for event in events:
            if isinstance(event, StringReady) and self._run is not None:
                self._compared.add(self._run.id)
            if isinstance(event, CeremonyEnded):
                if event.outcome is Outcome.REJECTED:
                    self._rejected = True
                    if self._run is not None:
                        self._compared.discard(self._run.id)
                self._run = None
        return events

    def _check_free(self, now: float) -> None:
        """That a ceremony may begin here and now. Raises: NotAvailable."""
        if self._run is not None:
            raise NotAvailable("A verification is running already")
        self._check_open(now)

    def _check_open(self, now: float) -> None:
        if self._rejected:
            raise NotAvailable("This verification was answered with a no; that is final")
        self._session.tries.check(now)

    def _may_start(self, now: float) -> bool:
        try:
            self._check_open(now)
        except NotAvailable:
            return False
        return self._peer_starts < MAX_PEER_STARTS


def _refuse(ceremony: str, reason: CancelReason) -> Send:
    return Send(messages.build_cancel(ceremony, reason))
