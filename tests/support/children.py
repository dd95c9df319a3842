"""Starting programs as a terminal would."""

from __future__ import annotations

import signal


def interruptible() -> None:
    """``preexec_fn`` for who is to hear SIGINT and SIGHUP.

    A shell without job control starts background jobs with SIGINT ignored, and so a test run in the
    background would hand that on to every program it starts; nohup(1) does it with SIGHUP.
    """
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
