"""``tpe2e``: files, calls and tubes, protected end to end, from the command line."""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from telepathy_e2e.cli import call_options, exits, tube_options
from telepathy_e2e.cli.exits import FAILED, INTERRUPTED, Exit, UsageError
from telepathy_e2e.cli.identity_options import add_parser as add_identity
from telepathy_e2e.cli.output import Output, make_output
from telepathy_e2e.cli.question import Answers, read_fingerprint
from telepathy_e2e.cli.secret import first_line
from telepathy_e2e.cli.trust_options import add_parser as add_trust

# Seconds until a login is given up.
LOGIN_TIMEOUT = 60.0


class _Parser(argparse.ArgumentParser):
    """Answers bad arguments with one sentence."""

    def __init__(self, **settings: Any) -> None:
        # No abbreviations: --password would be --password-file, and a password a file's name.
        super().__init__(allow_abbrev=False, **settings)

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message[:1].upper()}{message[1:]}: see '{self.prog} --help'.")


def build_parser() -> argparse.ArgumentParser:
    """All commands and their options."""
    parser = _Parser(
        prog="tpe2e",
        description="Files, calls and shared services over XMPP, protected end to end.",
        epilog=exits.MEANINGS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(
        dest="command", required=True, metavar="COMMAND", parser_class=_Parser
    )
    common = _Parser(add_help=False)
    common.add_argument(
        "--json", action="store_true", help="one JSON object a line, and no questions"
    )

    def command(name: str, text: str) -> argparse.ArgumentParser:
        return commands.add_parser(
            name,
            parents=[common],
            help=text,
            description=text[:1].upper() + text[1:] + ".",
            epilog=exits.MEANINGS,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )

    connect = command("connect", "log in; the connection stays up when the command ends")
    connect.add_argument("account", metavar="ACCOUNT", help="the JID, such as alice@example.org")
    connect.add_argument(
        "--password-file",
        metavar="FILE",
        help="its first line is the password; without it TPE2E_PASSWORD counts, then it is asked",
    )
    connect.add_argument("--server", metavar="HOST", help="instead of what DNS says")
    connect.add_argument("--port", type=_port, metavar="PORT")
    connect.add_argument(
        "--ca-file", metavar="FILE", help="more authorities for the server's certificate (PEM)"
    )
    connect.add_argument("--resource", metavar="NAME")
    connect.add_argument(
        "--param",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="any other account parameter, such as e2e-policy=required",
    )
    connect.add_argument(
        "--timeout",
        type=_seconds,
        default=LOGIN_TIMEOUT,
        metavar="SECONDS",
        help="how long to wait for the login (%(default).0f)",
    )

    disconnect = command("disconnect", "log out")
    disconnect.add_argument("account", metavar="ACCOUNT", nargs="?")

    send = command("send", "offer a file to a contact")
    send.add_argument("file", metavar="FILE")
    send.add_argument("jid", metavar="JID", help="the contact, such as bob@example.org")
    _add_account(send)
    _add_protection(send)
    send.add_argument("--description", default="", metavar="TEXT", help="shown to the contact")
    send.add_argument(
        "--yes",
        action="store_true",
        help="go on where a question is asked and nobody verified (--on-unverified proceed)",
    )
    _add_answers(send)

    receive = command("receive", "wait for files and store them")
    receive.add_argument("--dir", default=".", metavar="DIR", help="where they go (here)")
    receive.add_argument("--once", action="store_true", help="end after the first transfer")
    receive.add_argument("--from", dest="sender", metavar="JID", help="from this contact only")
    receive.add_argument(
        "--accept-all", action="store_true", help="do not ask whether to take a file"
    )
    _add_account(receive)
    _add_protection(receive)
    _add_answers(receive)

    call = command("call", "call a contact and talk")
    call_options.add_call(call, _seconds)
    _add_account(call)
    _add_answers(call, sas=True)

    answer = command("answer", "wait for calls and take them")
    call_options.add_answer(answer, _seconds)
    _add_account(answer)
    _add_answers(answer, sas=True)

    hangup = command("hangup", "end a call")
    call_options.add_hangup(hangup)
    _add_account(hangup)

    def add_common(parser: argparse.ArgumentParser) -> None:
        _add_account(parser)
        _add_protection(parser, "nothing goes through")
        _add_answers(parser)

    tube_options.add_tube(
        command("tube", "share a local service with a contact, or use a shared one"), add_common
    )
    forward = command("forward", "make a port here a service that a contact offers, as ssh -L does")
    tube_options.add_forward(forward, add_common)

    status = command("status", "show connections, contacts, and how channels are protected")
    _add_account(status)

    verify = command("verify", "verify the peer of a running channel")
    verify.add_argument(
        "target", metavar="JID|CHANNEL", nargs="?", help="which one, if there are several"
    )
    _add_answers(verify, by_eye=True, sas=True)

    add_identity(command("identity", "show and move the identities of this device"))
    add_trust(command("trust", "show and change what is remembered of contacts' keys"))
    return parser


def _add_account(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--account", metavar="ACCOUNT", help="which of the accounts logged in")


def _add_protection(
    parser: argparse.ArgumentParser, nothing: str = "no byte of the file moves"
) -> None:
    parser.add_argument(
        "--require",
        choices=("encrypted", "verified"),
        help=f"{nothing} with less (exit code 3)",
    )
    parser.add_argument(
        "--verify", action="store_true", help="verify the contact before anything moves"
    )


def _add_answers(
    parser: argparse.ArgumentParser, *, by_eye: bool = False, sas: bool = False
) -> None:
    if sas:
        parser.add_argument("--sas", action="store_true", help="compare short strings")
    answers = parser.add_argument_group("answers to questions, for scripts")
    answers.add_argument(
        "--sas-matches",
        choices=("yes", "no", "stdin"),
        help="compare short strings and say this; stdin: read yes or no there, once it is shown",
    )
    answers.add_argument(
        "--secret-file",
        metavar="FILE",
        help="verify by a password that both know: the first line of FILE, or of standard input "
        "if it is -",
    )
    text = "the contact's fingerprint, known by another road: verified if it is that, else rejected"
    if by_eye:
        answers.add_argument(
            "--fingerprint",
            metavar="HEX|URI",
            nargs="?",
            const="",
            help=text + "; without a value: compare by eye",
        )
    else:
        answers.add_argument("--fingerprint", metavar="HEX|URI", help=text)
    answers.add_argument(
        "--on-unverified",
        choices=("proceed", "reject"),
        help="where nothing else answers the question",
    )


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 0 < int(text) < 65536):
        raise argparse.ArgumentTypeError(f"a port is a number from 1 to 65535, not {text}")
    return int(text)


def _seconds(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = -1
    if not 0 < number <= 86400:
        raise argparse.ArgumentTypeError(f"between 0 and 86400 seconds, not {text}")
    return number


def answers_from(arguments: argparse.Namespace) -> Answers:
    """What the command line says about questions.

    Raises:
        UsageError: it contradicts itself.
    """
    on_unverified: str | None = arguments.on_unverified
    if getattr(arguments, "yes", False):
        if on_unverified == "reject":
            raise UsageError("--yes and --on-unverified reject contradict each other.")
        on_unverified = "proceed"
    verified_only = getattr(arguments, "require", None) == "verified"
    if verified_only and on_unverified == "proceed":
        raise UsageError("--require verified and going on unverified contradict each other.")
    fingerprint: str | None = arguments.fingerprint
    if fingerprint and arguments.sas_matches:
        raise UsageError("--fingerprint and --sas-matches are two ways: choose one.")
    secret_file: str | None = arguments.secret_file
    if secret_file is not None and (fingerprint or arguments.sas_matches):
        raise UsageError("--secret-file, --fingerprint and --sas-matches are ways: choose one.")
    from_stdin = (secret_file or "").strip() == "-"
    return Answers(
        secret=first_line(secret_file) if secret_file is not None and not from_stdin else None,
        secret_from_stdin=from_stdin,
        sas=getattr(arguments, "sas", False),
        sas_matches=arguments.sas_matches,
        fingerprint=read_fingerprint(fingerprint) if fingerprint else None,
        by_eye=fingerprint == "",
        on_unverified=on_unverified,
        may_proceed=not verified_only,
    )


async def execute(arguments: argparse.Namespace, output: Output) -> int:
    """Run the command that was parsed."""
    # Imported late: each command needs only its own, and starts the faster.
    match arguments.command:
        case "connect":
            from telepathy_e2e.cli import connect

            return await connect.run(arguments, output)
        case "disconnect":
            from telepathy_e2e.cli import connect

            return await connect.disconnect(arguments, output)
        case "send":
            from telepathy_e2e.cli import send

            return await send.run(arguments, output, answers_from(arguments))
        case "receive":
            from telepathy_e2e.cli import receive

            return await receive.run(arguments, output, answers_from(arguments))
        case "call":
            from telepathy_e2e.cli import call

            return await call.run(arguments, output, answers_from(arguments))
        case "answer":
            from telepathy_e2e.cli import answer

            return await answer.run(arguments, output, answers_from(arguments))
        case "hangup":
            from telepathy_e2e.cli import call

            return await call.hangup(arguments, output)
        case "tube":
            from telepathy_e2e.cli import tube

            return await tube.run(arguments, output, answers_from(arguments))
        case "forward":
            from telepathy_e2e.cli import forward

            return await forward.run(arguments, output, answers_from(arguments))
        case "status":
            from telepathy_e2e.cli import status

            return await status.run(arguments, output)
        case "identity":
            from telepathy_e2e.cli import identity

            return await identity.run(arguments, output)
        case "trust":
            from telepathy_e2e.cli import trust

            return await trust.run(arguments, output)
        case _:
            from telepathy_e2e.cli import verify

            return await verify.run(arguments, output, answers_from(arguments))


async def _interruptible(arguments: argparse.Namespace, output: Output) -> int:
    """A service manager or a script that ends us gets the same clean end as Ctrl-C, which
    asyncio.run already turns into a cancellation.
    """
    task, told = asyncio.current_task(), False

    def end() -> None:
        # timeout(1) sends it to us and then to its whole group: the second one must not end what
        # the first has begun. All of that is bounded (CALL_TIMEOUT).
        nonlocal told
        if task is not None and not told:
            told = task.cancel()

    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, end)
    # A terminal that is closed; under nohup(1) it is ignored, and stays so.
    if signal.getsignal(signal.SIGHUP) == signal.SIG_DFL:
        loop.add_signal_handler(signal.SIGHUP, end)
    return await execute(arguments, output)


def main(argv: Sequence[str] | None = None) -> int:
    """The program; returns the exit code (see ``exits``)."""
    words = sys.argv[1:] if argv is None else list(argv)
    output = make_output("--json" in words)
    try:
        arguments = build_parser().parse_args(words)
        return asyncio.run(_interruptible(arguments, output))
    except Exit as error:
        output.fail(error)
        return error.code
    except (KeyboardInterrupt, asyncio.CancelledError):
        output.fail(Exit(INTERRUPTED, "Interrupted."))
        return INTERRUPTED
    except BrokenPipeError:
        # Nobody reads our output any more (a pager that was left): end quietly.
        sys.stderr.close()
        return FAILED


if __name__ == "__main__":
    sys.exit(main())
