"""The command lines of ``tpe2e tube`` and ``tpe2e forward``."""

from __future__ import annotations

import argparse
from collections.abc import Callable

_OTHERS = "--other-machines"


def add_tube(
    parser: argparse.ArgumentParser, common: Callable[[argparse.ArgumentParser], None]
) -> None:
    """Options of ``tube``; ``common`` adds those about accounts, protection and questions."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")

    def action(name: str, text: str) -> argparse.ArgumentParser:
        made = actions.add_parser(name, help=text, description=text[:1].upper() + text[1:] + ".")
        made.add_argument(
            "--json", action="store_true", help="one JSON object a line, and no questions"
        )
        return made

    offer = action("offer", "share a local service with a contact, until one of you ends it")
    offer.add_argument("jid", metavar="JID", help="the contact, such as bob@example.org")
    offer.add_argument(
        "service", metavar="SERVICE", help="what it is called: http, rfb, ssh; servers see it"
    )
    offer.add_argument(
        "address",
        metavar="ADDRESS",
        nargs="?",
        help="where it is: 127.0.0.1:5900, [::1]:22, localhost:8080, 5900, unix:/path",
    )
    offer.add_argument(_OTHERS, action="store_true", help="ADDRESS may be on another machine")
    offer.add_argument("--dbus", action="store_true", help="a private bus of two instead")
    offer.add_argument(
        "--keep",
        action="store_true",
        help="offer it whenever the contact waits for it (with 'tpe2e forward'), until Ctrl-C",
    )
    offer.add_argument(
        "--param",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="told with the offer, NAME:u=5900 as a number; servers can read it: no passwords",
    )
    offer.add_argument(
        "--yes",
        action="store_true",
        help="go on where a question is asked and nobody verified (--on-unverified proceed)",
    )
    common(offer)

    accept = action("accept", "wait until a contact shares a service, and use it")
    accept.add_argument("jid", metavar="JID", nargs="?", help="only what this contact offers")
    accept.add_argument("service", metavar="SERVICE", nargs="?", help="only this service")
    where = accept.add_mutually_exclusive_group()
    where.add_argument(
        "--listen", metavar="ADDRESS", help="where programs connect: a port, or 127.0.0.1:PORT"
    )
    where.add_argument("--unix", metavar="PATH", help="the same, for your own programs only")
    accept.add_argument(_OTHERS, action="store_true", help="--listen may let other machines in")
    accept.add_argument("--dbus", action="store_true", help="a private bus of two instead")
    accept.add_argument(
        "--yes", dest="take", action="store_true", help="do not ask whether to take it"
    )
    common(accept)


def add_forward(
    parser: argparse.ArgumentParser, common: Callable[[argparse.ArgumentParser], None]
) -> None:
    """Options of ``forward``."""
    parser.add_argument(
        "port",
        metavar="LOCALPORT",
        help="where programs here connect: 8080, 127.0.0.1:8080, unix:/path; 0: any free port",
    )
    parser.add_argument("jid", metavar="JID", help="the contact who offers the service")
    parser.add_argument("service", metavar="SERVICE", help="what it is called there")
    parser.add_argument(_OTHERS, action="store_true", help="LOCALPORT may let other machines in")
    common(parser)
