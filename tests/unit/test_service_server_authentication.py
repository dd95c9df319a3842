"""The login as a conversation on the bus, and when there is one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from telepathy_e2e.errors import (
    AuthenticationFailed,
    CertSelfSigned,
    CertUntrusted,
    ConnectionFailed,
    ConnectionLost,
    InvalidArgument,
    LoginCancelled,
    NetworkError,
    NotAvailable,
    NotImplementedByUs,
    ServiceConfused,
    TelepathyError,
)
from telepathy_e2e.service import names
from telepathy_e2e.service.channel import Channel
from telepathy_e2e.service.events import ChannelEvent, NewChallenge, SASLStatusChanged
from telepathy_e2e.service.server_authentication import (
    CLIENT_ACCEPTED,
    CLIENT_FAILED,
    IN_PROGRESS,
    MAX_DATA,
    MAX_TRIES,
    NOT_STARTED,
    PASSWORD_MECHANISM,
    SERVER_FAILED,
    SERVER_SUCCEEDED,
    SUCCEEDED,
    ServerAuthentication,
)
from telepathy_e2e.service.server_questions import ServerQuestions
from telepathy_e2e.service.server_tls import ServerTLSConnection
from telepathy_e2e.xmpp.authenticator import LoginOffer, LoginTry, ServerCertificate
from telepathy_e2e.xmpp.settings import Password

OFFER = LoginOffer(("SCRAM-SHA-1", "PLAIN"), by_password=True)
WRONG = AuthenticationFailed("wrong")


class FakeAccount:
    """As much of ``service.account.Account`` as a question needs."""

    object_path = "/c"
    self_id = "alice@example.test"

    def __init__(self) -> None:
        self.announced: list[Any] = []
        self.closed: list[Channel] = []

    def next_path(self, kind: str) -> str:
        return f"/c/{kind}1"

    def announce(self, channel: Channel) -> None:
        self.announced.append(channel)

    def channel_closed(self, channel: Channel) -> None:
        self.closed.append(channel)


def fake_account() -> Any:
    return FakeAccount()


class Asked:
    """A channel, and what it told."""

    def __init__(self, offer: LoginOffer = OFFER) -> None:
        self.account = fake_account()
        self.accepted: list[Password] = []
        self.ends: list[TelepathyError] = []
        self.told: list[ChannelEvent] = []
        self.channel = ServerAuthentication(
            self.account, offer, accepted=self.accepted.append, give_up=self.ends.append
        )
        self.channel.events.subscribe(self.told.append)

    def password(self, text: str = "x") -> None:
        self.channel.start_mechanism_with_data(PASSWORD_MECHANISM, text.encode())

    @property
    def statuses(self) -> list[int]:
        return [each.status for each in self.told if isinstance(each, SASLStatusChanged)]


async def running(work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
    """A task that has got as far as it can."""
    task = asyncio.ensure_future(work)
    for _ in range(3):
        await asyncio.sleep(0)
    return task


async def test_the_login_waits_for_a_password_and_then_for_the_agreement() -> None:
    asked = Asked()
    waiting = await running(asked.channel.next_try())
    assert not waiting.done()
    asked.password("open sesame")
    this: LoginTry = await waiting
    assert this.password is not None
    assert this.password.reveal() == "open sesame"
    finishing = await running(this.finish(b""))
    assert not finishing.done()
    assert asked.accepted == []
    asked.channel.accept_sasl()
    await finishing
    assert asked.statuses == [IN_PROGRESS, SERVER_SUCCEEDED, SUCCEEDED]
    assert asked.accepted == [this.password]
    asked.channel.close()
    assert asked.ends == []


async def test_no_password_shows_in_what_is_told_or_in_representations() -> None:
    asked = Asked()
    asked.password("open sesame")
    this = await asked.channel.next_try()
    this.refused(WRONG, again=True)
    assert "sesame" not in f"{asked.told}{this!r}{vars(this)}{vars(asked.channel)}"


async def test_tries_end_at_the_bound() -> None:
    asked = Asked()
    for number in range(MAX_TRIES):
        assert asked.ends == [], number
        asked.password()
        (await asked.channel.next_try()).refused(WRONG, again=True)
    assert asked.ends == [WRONG]
    assert asked.statuses[-1] == SERVER_FAILED
    with pytest.raises(NotAvailable):
        asked.password()
    with pytest.raises(AuthenticationFailed, match="wrong"):
        await asked.channel.next_try()


async def test_a_refusal_that_no_password_helps_is_the_end() -> None:
    asked = Asked()
    asked.password()
    (await asked.channel.next_try()).refused(NetworkError("later"), again=False)
    assert [type(each) for each in asked.ends] == [NetworkError]


async def test_a_server_that_is_wrong_ends_it_as_the_clients_failure() -> None:
    asked = Asked()
    asked.password()
    (await asked.channel.next_try()).confused(ServiceConfused("no proof"))
    assert asked.channel.sasl_status == CLIENT_FAILED
    assert asked.channel.sasl_error.endswith(".ServiceConfused")
    with pytest.raises(NotAvailable):
        asked.password()


async def test_a_client_drives_a_mechanism() -> None:
    asked = Asked()
    asked.channel.start_mechanism("SCRAM-SHA-1")
    this = await asked.channel.next_try()
    assert (this.password, this.mechanism, this.initial) == (None, "SCRAM-SHA-1", None)
    with pytest.raises(NotAvailable):
        asked.channel.respond(b"early")
    responding = await running(this.respond(b"challenge"))
    assert asked.told[-1] == NewChallenge(b"challenge")
    asked.channel.respond(b"response")
    with pytest.raises(NotAvailable):
        asked.channel.respond(b"twice")
    assert await responding == b"response"
    finishing = await running(this.finish(b""))
    asked.channel.accept_sasl()
    await finishing
    assert asked.statuses == [IN_PROGRESS, SERVER_SUCCEEDED, SUCCEEDED]


@pytest.mark.parametrize("answer", ["respond", "accept"])
async def test_data_with_the_servers_yes_is_a_challenge(answer: str) -> None:
    asked = Asked()
    asked.channel.start_mechanism_with_data("SCRAM-SHA-1", b"first")
    this = await asked.channel.next_try()
    finishing = await running(this.finish(b"v=proof"))
    assert asked.told[-1] == NewChallenge(b"v=proof")
    if answer == "respond":
        asked.channel.respond(b"")
        await running(asyncio.sleep(0))
        assert asked.channel.sasl_status == SERVER_SUCCEEDED
        asked.channel.accept_sasl()
    else:
        asked.channel.accept_sasl()
        assert asked.channel.sasl_status == CLIENT_ACCEPTED
        with pytest.raises(NotAvailable):
            asked.channel.abort_sasl(1, "")
    await finishing
    assert asked.channel.sasl_status == SUCCEEDED


async def test_nothing_can_be_started_while_something_runs() -> None:
    asked = Asked()
    asked.password()
    starts: list[Callable[[], None]] = [
        lambda: asked.channel.start_mechanism("PLAIN"),
        lambda: asked.channel.start_mechanism_with_data("PLAIN", b""),
        asked.password,
    ]
    for start in starts:
        with pytest.raises(NotAvailable):
            start()


def test_mechanisms_are_those_that_were_announced() -> None:
    asked = Asked(LoginOffer(("PLAIN",), by_password=False))
    assert asked.channel.available_mechanisms == ["PLAIN"]
    with pytest.raises(NotImplementedByUs):
        asked.password()
    with pytest.raises(NotImplementedByUs):
        Asked().channel.start_mechanism(PASSWORD_MECHANISM)


def test_data_has_a_bound() -> None:
    asked = Asked()
    with pytest.raises(InvalidArgument):
        asked.channel.start_mechanism_with_data("PLAIN", b"x" * (MAX_DATA + 1))
    assert asked.channel.sasl_status == NOT_STARTED
    asked.channel.start_mechanism_with_data("PLAIN", b"x" * MAX_DATA)
    assert asked.channel.sasl_status == IN_PROGRESS


@pytest.mark.parametrize(("reason", "kind"), [(0, ServiceConfused), (1, LoginCancelled)])
async def test_aborting_ends_the_login(reason: int, kind: type[TelepathyError]) -> None:
    asked = Asked()
    asked.password()
    this = await asked.channel.next_try()
    asked.channel.abort_sasl(reason, "why")
    assert [type(each) for each in asked.ends] == [kind]
    with pytest.raises(kind):
        await this.finish(b"")
    asked.channel.abort_sasl(reason, "again is harmless")
    assert asked.statuses == [IN_PROGRESS, CLIENT_FAILED]


@pytest.mark.parametrize("tried", [False, True])
async def test_closing_without_success_ends_the_login_once(tried: bool) -> None:
    asked = Asked()
    if tried:
        asked.password()
        (await asked.channel.next_try()).refused(WRONG, again=True)
    waiting = await running(asked.channel.next_try())
    asked.channel.close()
    with pytest.raises(AuthenticationFailed):
        await waiting
    assert len(asked.ends) == 1
    assert (asked.ends[0] is WRONG) == tried
    assert asked.account.closed == [asked.channel]


async def test_another_stream_is_worth_it_once_somebody_has_answered() -> None:
    asked = Asked()
    waiting = await running(asked.channel.next_stream(ConnectionLost("hung up")))
    assert not waiting.done()
    asked.password()
    await waiting
    this = await asked.channel.next_try()
    with pytest.raises(ConnectionLost):
        # In the midst of a try it is the network.
        await asked.channel.next_stream(ConnectionLost("broke"))
    this.refused(WRONG, again=True)
    waiting = await running(asked.channel.next_stream(ConnectionLost("hung up")))
    asked.channel.close()
    with pytest.raises(AuthenticationFailed):
        await waiting


# -- when there is a question ---------------------------------------------------------------


def questions(
    password: str = "", *, handles: str = "", dispatcher: bool = False
) -> tuple[ServerQuestions, Any]:
    account = fake_account()

    async def present() -> bool:
        return dispatcher

    made = ServerQuestions(
        account,
        Password(password),
        handles=lambda channel_type: channel_type == handles,
        dispatcher=present,
        give_up=lambda error: None,
    )
    return made, account


async def test_without_a_password_there_is_a_question_whoever_is_there() -> None:
    made, account = questions()
    waiting = await running(made.next_try(OFFER, may_ask=True))
    (channel,) = account.announced
    channel.start_mechanism_with_data(PASSWORD_MECHANISM, b"x")
    assert (await waiting).password.reveal() == "x"


@pytest.mark.parametrize(
    ("there", "again", "question"),
    [
        ({}, True, False),
        ({"handles": names.SERVER_TLS}, True, False),
        ({"handles": names.SERVER_AUTHENTICATION}, True, True),
        ({"dispatcher": True}, True, True),
        ({"dispatcher": True}, False, False),
    ],
)
async def test_after_a_wrong_password_there_is_one_if_somebody_could_answer(
    there: dict[str, Any], again: bool, question: bool
) -> None:
    made, account = questions("wrong", **there)
    first = await made.next_try(OFFER, may_ask=True)
    assert first.password is not None
    first.refused(WRONG, again=again)
    second = await running(made.next_try(OFFER, may_ask=True))
    assert bool(account.announced) == question
    if question:
        second.cancel()
    else:
        with pytest.raises(AuthenticationFailed, match="wrong"):
            await second


async def test_a_server_that_hangs_up_on_a_wrong_password_is_called_once_more() -> None:
    made, _ = questions("wrong", dispatcher=True)
    (await made.next_try(OFFER, may_ask=True)).refused(WRONG, again=True)
    await made.next_stream(ConnectionLost("hung up"))
    with pytest.raises(AuthenticationFailed):
        await made.next_stream(ConnectionLost("hung up again"))


async def test_a_broken_connection_is_no_wrong_password() -> None:
    made, _ = questions("right", dispatcher=True)
    await made.next_try(OFFER, may_ask=True)
    with pytest.raises(ConnectionLost):
        await made.next_stream(ConnectionLost("broke"))


async def test_a_broken_session_asks_nobody_but_knows_the_password_that_was_right() -> None:
    made, account = questions()
    with pytest.raises(ConnectionFailed):
        await made.next_try(OFFER, may_ask=False)
    waiting = await running(made.next_try(OFFER, may_ask=True))
    (channel,) = account.announced
    channel.start_mechanism_with_data(PASSWORD_MECHANISM, b"x")
    finishing = await running((await waiting).finish(b""))
    channel.accept_sasl()
    await finishing
    again = await made.next_try(OFFER, may_ask=False)
    assert again.password is not None
    assert again.password.reveal() == "x"


# -- certificates ---------------------------------------------------------------------------

Answer = Callable[[ServerTLSConnection], None]


async def judged(answer: Answer) -> Any:
    made, account = questions(dispatcher=True)
    assert await made.can_judge()
    shown = ServerCertificate((b"leaf", b"ca"), CertSelfSigned("itself"), "a.test", ("a.test",))
    waiting = await running(made.judge(shown))
    (channel,) = account.announced
    assert channel.certificate.certificate_chain_data == [b"leaf", b"ca"]
    answer(channel)
    return await waiting


async def test_an_accepted_certificate_is_accepted() -> None:
    await judged(lambda channel: channel.certificate.accept())


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (lambda channel: channel.close(), CertSelfSigned),
        (lambda channel: channel.certificate.reject([]), CertUntrusted),
        (lambda channel: channel.certificate.reject([(6, "x", {})]), CertSelfSigned),
    ],
)
async def test_any_other_answer_is_a_no(answer: Answer, kind: type[Exception]) -> None:
    with pytest.raises(kind):
        await judged(answer)


async def test_a_question_that_goes_with_its_connection_is_no_yes() -> None:
    with pytest.raises(asyncio.CancelledError):
        await judged(lambda channel: channel.disconnected(ConnectionLost("x"), stopped=True))


async def test_nobody_judges_where_nobody_is() -> None:
    made, _ = questions(handles=names.SERVER_AUTHENTICATION)
    assert not await made.can_judge()
    made, _ = questions(handles=names.SERVER_TLS)
    assert await made.can_judge()
