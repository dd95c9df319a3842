"""Starting programs as a terminal would."""

from __future__ import annotations

import signal


def interruptible() -> None:
    """``preexec_fn`` for who is to hear SIGINT.

    A shell without job control starts background jobs with SIGINT ignored, and so a test run in the
    background would hand that on to every program it starts.
    """
    signal.signal(signal.SIGINT, signal.SIG_DFL)
