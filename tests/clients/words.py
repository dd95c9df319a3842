"""What a client says to its test. No imports but the standard library's."""

from __future__ import annotations

import json
import sys
from typing import Any


def say(event: str, **what: Any) -> None:
    """One line for the test."""
    print(json.dumps({"event": event, **what}), flush=True)


def give_up(error: object) -> None:
    """Say what went wrong, and leave."""
    say("error", text=str(error))
    sys.exit(1)
