"""What can be said on the command line after ``tpe2e trust``."""

from __future__ import annotations

import argparse


def add_parser(parser: argparse.ArgumentParser) -> None:
    """The actions and their options."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")

    def action(name: str, text: str) -> argparse.ArgumentParser:
        made = actions.add_parser(name, help=text, description=text[:1].upper() + text[1:] + ".")
        made.add_argument("--json", action="store_true", help=argparse.SUPPRESS)
        made.add_argument("--account", metavar="ACCOUNT", help="only what belongs to this account")
        return made

    action("list", "alarms, and the keys of all contacts")
    show = action("show", "all that is remembered of a contact; its alarms are settled by that")
    show.add_argument("jid", metavar="JID", help="the contact")
    forget = action("forget", "remember the keys of a contact no longer, or one of them")
    forget.add_argument("jid", metavar="JID", help="the contact")
    forget.add_argument("fingerprint", metavar="FINGERPRINT", nargs="?", help="of one key only")
    forget.add_argument("--yes", action="store_true", help="do not ask")
    export = action("export", "write all keys to a new file, for another device or as a backup")
    export.add_argument("file", metavar="FILE", help="a new one; -: standard output")
    take = action("import", "add the keys from a file that 'export' wrote")
    take.add_argument("file", metavar="FILE", help="-: standard input")
