"""Answering "is this really Bob?": one PeerVerification1 channel, from first to last."""

from __future__ import annotations

import hmac
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

from telepathy_e2e.cli import names, qr
from telepathy_e2e.cli.bus import BusError
from telepathy_e2e.cli.exits import UNVERIFIED, Exit, UsageError
from telepathy_e2e.cli.output import Output, read_line
from telepathy_e2e.cli.views import ChannelView
from telepathy_e2e.cli.words import (
    FAILURES,
    METHODS,
    REASONS,
    fingerprint_lines,
    parse_fingerprint,
    printable,
    verification_uri,
)

PV: Final = names.PEER_VERIFICATION

# Methods that need no person: the daemon lists them where an attestation holds, by the authorities
# and the OpenPGP keys that the user trusts.
ATTESTED: Final = ("x509", "openpgp")

# States of a question that is over.
OVER: Final = frozenset({"verified", "unverified", "rejected"})


@dataclass(frozen=True)
class Answers:
    """What the command line says about questions.

    Args:
        sas: compare short strings without asking which method.
        sas_matches: ``yes``, ``no``, ``stdin`` (read the answer as a line there), or None: ask.
        secret: the password that both know, to be compared without showing it; or None.
        secret_from_stdin: it is the next line of standard input.
        fingerprint: the peer's identity fingerprint as 64 hex digits, known by another road; or
            None.
        by_eye: show the fingerprints and ask.
        on_unverified: ``proceed`` or ``reject`` where nothing else answers; None: ask.
        may_proceed: whether going on unverified is a choice at all.
    """

    sas: bool = False
    sas_matches: str | None = None
    secret: str | None = field(default=None, repr=False)
    secret_from_stdin: bool = False
    fingerprint: str | None = None
    by_eye: bool = False
    on_unverified: str | None = None
    may_proceed: bool = True

    @property
    def given(self) -> bool:
        """Whether there is an answer without asking anybody."""
        return bool(self.sas_matches or self.knows_secret or self.fingerprint or self.on_unverified)

    @property
    def knows_secret(self) -> bool:
        """Whether a password is to be compared."""
        return self.secret is not None or self.secret_from_stdin

    @property
    def names_a_way(self) -> bool:
        """Whether something is to be compared; then nobody else's word replaces it."""
        return bool(self.sas or self.sas_matches or self.knows_secret or self.by_eye)

    def check(self, output: Output, wanted: str) -> None:
        """Refuse a command that will ask (because of the option ``wanted``) where nobody can.

        Raises:
            UsageError: neither a terminal nor an answer.
        """
        if not output.can_ask and not self.given:
            raise UsageError(
                f"{wanted} asks a question, and nobody can be asked here: add --sas-matches, "
                "--secret-file, --fingerprint or --on-unverified."
            )


def read_fingerprint(text: str) -> str:
    """The value of ``--fingerprint``.

    Raises:
        UsageError: it is no fingerprint.
    """
    try:
        return parse_fingerprint(text)
    except ValueError as error:
        raise UsageError(
            f"--fingerprint takes 64 hexadecimal digits or a verification URI; this is {error}."
        ) from error


async def answer(question: ChannelView, output: Output, answers: Answers) -> tuple[str, str]:
    """Put the question to the person or the command line, and see it through.

    Returns:
        (state, method) as in ``Finished``; the state is empty if the question went away with its
        payload channel, or was left to somebody else because there is no answer here.
    """
    await question.fill()
    _describe(question, output)
    try:
        return await _Dialogue(question, output, answers).run()
    except BusError as error:
        # Somebody else (a trust handler, the peer) was faster: one answer counts.
        if question.finished is None and not question.closed:
            raise
        output.say("question-over", f"The question was answered elsewhere ({error}).")
        return question.finished or ("", "")


def _describe(question: ChannelView, output: Output) -> None:
    reason = str(question.get(PV, "Reason", ""))
    peer = (question.get(PV, "PeerFingerprints") or {}).get("sha-256", "")
    own = (question.get(PV, "OwnFingerprints") or {}).get("sha-256", "")
    attestations = [
        {"type": kind, "summary": summary}
        for kind, summary, _ in question.get(PV, "Attestations") or ()
    ]
    name = printable(question.target)
    output.say(
        "question",
        f"Is this really {name}? Asked because {REASONS.get(reason, printable(reason))}.",
        style="bold",
        channel=question.path,
        payload=question.get(PV, "PayloadChannel"),
        contact=question.target,
        reason=reason,
        methods=list(question.get(PV, "Methods") or ()),
        peer_fingerprints=question.get(PV, "PeerFingerprints") or {},
        own_fingerprints=question.get(PV, "OwnFingerprints") or {},
        attestations=attestations,
    )
    for title, fingerprint in ((f"Fingerprint of {name}", peer), ("Your own fingerprint", own)):
        if fingerprint:
            output.show(f"  {title}:")
            for line in fingerprint_lines(fingerprint):
                output.show(f"    {line}")
    for attestation in attestations:
        output.show(
            f"  Somebody vouches ({printable(attestation['type'], 40)}): "
            f"{printable(attestation['summary'])}"
        )


# What the other side wants when it begins.
_BEGUN: Final = {
    "sas": "wants to compare short strings",
    "password": "wants to compare a password that only the two of you know",
}

# One way to answer; None if the question is still open afterwards.
_Way = Callable[[], Awaitable[tuple[str, str] | None]]


class _Dialogue:
    def __init__(self, question: ChannelView, output: Output, answers: Answers) -> None:
        self._question = question
        self._output = output
        self._answers = answers
        self._name = printable(question.target)
        self._peer = (question.get(PV, "PeerFingerprints") or {}).get("sha-256", "")
        self._own = (question.get(PV, "OwnFingerprints") or {}).get("sha-256", "")
        self._methods = list(question.get(PV, "Methods") or ())
        self._attested = next((each for each in ATTESTED if each in self._methods), None)
        self._told = len(question.failures)

    @property
    def _over(self) -> bool:
        return self._question.finished is not None or self._question.closed

    async def run(self) -> tuple[str, str]:
        in_clear = self._question.get(PV, "PeerCertificate", "/") == "/" and not self._peer
        if in_clear:
            return await self._in_clear()
        if self._answers.fingerprint is not None:
            return await self._expected(self._answers.fingerprint)
        if self._answers.by_eye and self._output.can_ask:
            ended = await self._by_eye()
            if ended is not None:
                return ended
        if self._answers.knows_secret and "password" in self._methods:
            ended = await self._password()
            if ended is not None:
                return ended
        elif self._answers.knows_secret:
            self._output.say(
                "no-password", f"{self._name}'s client cannot compare passwords.", style="yellow"
            )
        wants_sas = self._answers.sas or self._answers.sas_matches is not None
        if wants_sas and "sas" in self._methods:
            ended = await self._sas()
            if ended is not None:
                return ended
        elif wants_sas:
            self._output.say(
                "no-sas", f"{self._name}'s client cannot compare short strings.", style="yellow"
            )
        return await self._otherwise()

    async def _otherwise(self) -> tuple[str, str]:
        """No method on the command line settled it: ask, or take --on-unverified."""
        if self._over:
            return self._question.finished or ("", "")
        nobody_asked = self._answers.on_unverified is not None or not self._output.can_ask
        if self._attested is not None and nobody_asked and not self._answers.names_a_way:
            return await self._do("Accept", "s", self._attested)
        if self._answers.on_unverified == "proceed":
            return await self._do("ProceedUnverified")
        if self._answers.on_unverified == "reject" or self._answers.given:
            return await self._reject("Not verified")
        if not self._output.can_ask:
            self._output.say(
                "question-open",
                "Nobody can be asked here; the question stays open for 'tpe2e verify'.",
                channel=self._question.path,
            )
            return "", ""
        while not self._over:
            choice = await self._choose()
            ended = await choice()
            if ended is not None:
                return ended
        return self._question.finished or ("", "")

    # -- the ways -----------------------------------------------------------------------------

    async def _choose(self) -> _Way:
        choices = {}
        if "sas" in self._methods:
            choices["s"] = "compare a short string, over the telephone or face to face"
        if "password" in self._methods:
            choices["w"] = "type a password that only the two of you know; nobody gets to see it"
        if self._attested is not None:
            choices["a"] = f"take the word of {METHODS[self._attested]}: nothing to compare"
        choices |= {
            "f": "I have compared the fingerprint, by another road than this",
            "q": "show a QR code of my own fingerprint, to be scanned on the other side",
            "p": "go on unverified, decide later",
            "r": "this is not who it should be: end it",
        }
        if not self._answers.may_proceed:
            del choices["p"]
        # Who is asked what to do must hear that the other side has begun, also while he thinks.
        self._tell_failures()
        known, failures = self._question.peer_started, len(self._question.failures)
        if known in _BEGUN:
            self._output.say("peer-started", f"{self._name} {_BEGUN[known]}.", method=known)
        picked = await self._ask_unless_over(
            "What shall be done?",
            choices,
            moot=lambda: (
                self._over
                or self._question.peer_started != known
                or len(self._question.failures) > failures
            ),
        )
        ways: dict[str, _Way] = {
            "s": self._sas,
            "w": self._password,
            "a": self._take_attestation,
            "f": self._by_eye,
            "q": self._qr,
            "p": self._proceed,
            "r": self._rejected_by_user,
            "": self._nothing,
        }
        return ways[picked]

    async def _nothing(self) -> tuple[str, str] | None:
        self._output.show("")
        return (self._question.finished or ("", "")) if self._over else None

    async def _proceed(self) -> tuple[str, str] | None:
        try:
            return await self._do("ProceedUnverified")
        except BusError as error:
            if not error.error.endswith(".PermissionDenied"):
                raise
            self._output.say("refused", f"That is not allowed: {error}", style="yellow")
            return None

    async def _take_attestation(self) -> tuple[str, str] | None:
        return await self._do("Accept", "s", self._attested or "")

    async def _rejected_by_user(self) -> tuple[str, str] | None:
        return await self._reject("The user says that this is somebody else")

    async def _qr(self) -> tuple[str, str] | None:
        uri = verification_uri(self._question.connection.account.partition("/")[0], self._own)
        self._output.show(qr.for_terminal(uri, sys.stdout))
        self._output.show(uri)
        return None

    async def _in_clear(self) -> tuple[str, str]:
        if self._answers.on_unverified is not None:
            if self._answers.on_unverified == "proceed":
                return await self._do("ProceedUnverified")
            return await self._reject("Not in the clear")
        if self._answers.given:
            return await self._reject("Not in the clear")
        if not self._output.can_ask:
            return await self._otherwise()
        picked = await self._ask_unless_over(
            f"{self._name}'s client cannot encrypt. Go on where every server on the way can read "
            "and change it?",
            {"n": "", "y": ""},
            default="n",
        )
        if picked == "y":
            return await self._do("ProceedUnverified")
        if picked == "n":
            return await self._reject("Not in the clear")
        return self._question.finished or ("", "")

    async def _expected(self, expected: str) -> tuple[str, str]:
        shown = self._peer.replace(":", "").lower()
        if hmac.compare_digest(shown.encode(), expected.encode()):
            return await self._do("Accept", "s", "fingerprint")
        self._output.say(
            "fingerprint-differs",
            f"The fingerprint of {self._name} is NOT the one you gave: somebody may be in between.",
            style="bold red",
            expected=expected,
            shown=shown,
        )
        return await self._reject("The fingerprint is another one")

    async def _by_eye(self) -> tuple[str, str] | None:
        picked = await self._ask_unless_over(
            f"Is the fingerprint above, that of {self._name}, the one that {self._name} told you "
            "by another road?",
            {"n": "no, or not sure", "y": "yes, all of it", "r": "it is another one"},
            default="n",
        )
        match picked:
            case "y":
                return await self._do("Accept", "s", "fingerprint")
            case "r":
                return await self._reject("The fingerprint is another one")
            case "n":
                return None
        return self._question.finished or ("", "")

    async def _sas(self) -> tuple[str, str] | None:
        """Compare short strings; None if the comparison failed and the question is still open."""
        question = self._question
        failures = _failures(question)

        def ended() -> bool:
            return self._over or _failures(question) > failures

        await question.call(PV, "StartSAS")
        if question.peer_started != "sas":
            self._output.say(
                "sas-started", f"Waiting until {self._name} agrees to compare short strings …"
            )
        await question.wait(lambda: ended() or bool(self._string))
        if not ended():
            await self._compare(str(self._string), ended)
            await question.wait(ended)
        if self._over:
            return self._report(question.finished or ("", ""))
        if not self._tell_failures():
            self._say_failed("sas", "", spent=True)
        return None

    async def _password(self) -> tuple[str, str] | None:
        """Compare a password; None if that failed and the question is still open."""
        question = self._question
        secret = await self._secret()
        if self._over:
            return question.finished or ("", "")
        failures = _failures(question)
        begun = question.peer_started == "password"
        try:
            await question.call(PV, "StartPassword", "s", secret)
        except BusError as error:
            if not error.error.endswith(".InvalidArgument"):
                raise
            if self._answers.knows_secret:
                raise UsageError(f"That is no password to compare: {error}.") from error
            self._output.say("refused", f"That is not possible: {error}.", style="yellow")
            return None
        if not begun:
            self._output.say(
                "password-started", f"Waiting until {self._name} types the password too …"
            )
        await question.wait(lambda: self._over or _failures(question) > failures)
        if self._over:
            return self._report(question.finished or ("", ""))
        if not self._tell_failures():
            self._say_failed("password", "", spent=True)
        return None

    async def _secret(self) -> str:
        if self._answers.secret is not None:
            return self._answers.secret
        if self._answers.secret_from_stdin:
            try:
                return await read_line(sys.stdin)
            except EOFError:
                raise Exit(UNVERIFIED, "Standard input ended before the password.") from None
        return await self._question.unless(
            lambda: self._over,
            self._output.ask_secret(f"The password that only {self._name} and you know:"),
        )

    def _tell_failures(self) -> bool:
        """Say what has failed since the last time; whether anything has."""
        news = self._question.failures[self._told :]
        self._told += len(news)
        for method, reason, spent in news:
            self._say_failed(method, reason, spent=spent)
        return bool(news)

    def _say_failed(self, method: str, reason: str, *, spent: bool) -> None:
        why = FAILURES.get(reason, "it ended before both sides had answered")
        count = " Three of these in a session, and it is closed." if spent else ""
        self._output.say(
            f"{method if method in METHODS else 'verification'}-failed",
            f"No result from {METHODS.get(method, printable(method, 40))}: {why}.{count}",
            style="yellow",
            reason=reason,
            spent=spent,
        )

    async def _compare(self, text: str, ended: Callable[[], bool]) -> None:
        """Show the string and say whether it is the same on the other side."""
        self._output.say(
            "sas",
            f"The short string here is  {' '.join(text)}  and {self._name} must see the same.",
            style="bold cyan",
            string=text,
            channel=self._question.path,
        )
        matches = await self._sas_matches(ended)
        if matches is None or ended():
            return
        try:
            await self._question.call(PV, "ConfirmSAS", "b", matches)
        except BusError:
            if not ended():
                raise
            return
        self._output.say("sas-answered", "", matches=matches)
        if matches:
            self._output.show(f"Waiting for the answer of {self._name} …")

    @property
    def _string(self) -> object:
        return self._question.get(PV, "ShortAuthenticationString", "")

    async def _sas_matches(self, ended: Callable[[], bool]) -> bool | None:
        """What is said about the strings; None if the comparison ended before."""
        said = self._answers.sas_matches
        if said == "stdin":
            try:
                line = (await read_line(sys.stdin)).lower()
            except EOFError:
                raise Exit(UNVERIFIED, "Standard input ended before the answer.") from None
            return line in ("yes", "y", "true")
        if said is not None:
            return said == "yes"
        picked = await self._ask_unless_over(
            f"Ask {self._name}, in a voice that you know: are both strings the same?",
            {"n": "they differ: somebody is in between", "y": "they are the same"},
            # No default: an empty answer must not reject, and a habit must not accept.
            moot=ended,
        )
        return None if picked == "" else picked == "y"

    # -- small ones ---------------------------------------------------------------------------

    async def _ask_unless_over(
        self,
        text: str,
        choices: dict[str, str],
        *,
        default: str = "",
        moot: Callable[[], bool] | None = None,
    ) -> str:
        """Ask, but stop asking when there is nothing left to ask about; then empty."""
        return await self._question.unless(
            moot or (lambda: self._over), self._output.ask(text, choices, default)
        )

    async def _reject(self, why: str) -> tuple[str, str]:
        return await self._do("Reject", "s", why)

    async def _do(self, member: str, signature: str = "", *body: object) -> tuple[str, str]:
        await self._question.call(PV, member, signature, *body)
        await self._question.wait(lambda: self._over)
        return self._report(self._question.finished or ("", ""))

    def _report(self, outcome: tuple[str, str]) -> tuple[str, str]:
        state, method = outcome
        sentence, style = {
            "verified": (
                f"{self._name} is verified, by {METHODS.get(method, printable(method, 40))}.",
                "bold green",
            ),
            "unverified": (f"{self._name} stays unverified.", "yellow"),
            "rejected": (f"{self._name} was rejected.", "bold red"),
        }.get(state, ("The question is gone.", "yellow"))
        self._output.say("answered", sentence, style=style, state=state, method=method)
        return outcome


def _failures(question: ChannelView) -> int:
    """How many comparisons ended without an outcome: back to where they began."""
    return sum(1 for state in question.states if state in ("pending", "unverified"))
