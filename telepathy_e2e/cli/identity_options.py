"""What can be said on the command line after ``tpe2e identity``."""

from __future__ import annotations

import argparse
from typing import Final

ATTESTERS: Final = "openpgp, x509, identity"


def add_parser(parser: argparse.ArgumentParser) -> None:
    """The actions and their options."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")

    def action(
        name: str, text: str, *, account: bool = True, file: str = "", secret: str = ""
    ) -> argparse.ArgumentParser:
        made = actions.add_parser(name, help=text, description=text[:1].upper() + text[1:] + ".")
        made.add_argument("--json", action="store_true", help=argparse.SUPPRESS)
        if account:
            made.add_argument("account", metavar="ACCOUNT", help="the JID")
        if file:
            made.add_argument("file", metavar="FILE", help=file)
        if secret:
            made.add_argument("--passphrase-file", metavar="FILE", help=secret)
        return made

    show = action("show", "whose identities are here, and their fingerprints", account=False)
    show.add_argument("account", metavar="ACCOUNT", nargs="?")
    first = "its first line is the passphrase; without it, it is asked for"
    action("export", "write an identity for another device, or a backup", file="new", secret=first)
    action("import", "keep an identity that was exported", file="from export", secret=first)
    action("lock", "make all keys with a passphrase unusable until 'unlock'", account=False)
    action("unlock", "make the keys with this passphrase usable", account=False, secret=first)
    passphrase = action("passphrase", "give a key a passphrase, or another one", secret=first)
    passphrase.add_argument(
        "--current-file", metavar="FILE", help="its first line is the passphrase until now"
    )
    passphrase.add_argument(
        "--sealed", action="store_true", help="it has one and is unlocked: ask for that"
    )
    instead = passphrase.add_mutually_exclusive_group()
    instead.add_argument("--remove", action="store_true", help="no passphrase any more")
    instead.add_argument(
        "--secret-service",
        action="store_true",
        help="a random one, which the desktop's keyring keeps and gives to the key agent",
    )
    forget = action("forget", "delete an identity for good")
    forget.add_argument("--yes", action="store_true", help="do not ask")
    vouch = action("vouch", "say that another device's key is yours too", secret=first)
    vouch.add_argument("device", metavar="KEY", help="its fingerprint, or URI, as it shows it")
    vouch.add_argument(
        "file", metavar="FILE", nargs="?", default="-", help="new; else standard output"
    )
    vouch.add_argument(
        "--sealed", action="store_true", help="agree by the passphrase, not by a notification"
    )
    vouch.add_argument("--summary", metavar="TEXT", help="the line that contacts are shown")
    vouch.add_argument("--yes", action="store_true", help="do not ask; the key agent still does")
    attest = action("attest", "let somebody vouch for a key: " + ATTESTERS, account=False)
    kinds = attest.add_subparsers(dest="type", required=True, metavar="TYPE")
    openpgp = kinds.add_parser("openpgp", help="your OpenPGP key, by gpg")
    openpgp.add_argument("account", metavar="ACCOUNT", help="the JID")
    openpgp.add_argument(
        "--key", required=True, metavar="ID", help="as gpg knows it; it has the user id xmpp:JID"
    )
    x509 = kinds.add_parser("x509", help="a certificate that your company made for this key")
    x509.add_argument("account", metavar="ACCOUNT", help="the JID")
    x509.add_argument("file", metavar="FILE", help="it and those between it and the root, in PEM")
    identity = kinds.add_parser("identity", help="another device of yours, by 'vouch' there")
    identity.add_argument("account", metavar="ACCOUNT", help="the JID")
    identity.add_argument("file", metavar="FILE", help="what 'vouch' wrote; -: standard input")
    for each in (openpgp, x509, identity):
        each.add_argument("--json", action="store_true", help=argparse.SUPPRESS)
        each.add_argument("--summary", metavar="TEXT", help="the line that contacts are shown")
