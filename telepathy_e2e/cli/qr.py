"""QR codes for terminals that can show them."""

from __future__ import annotations

import io
import os
from typing import TextIO

import segno


def for_terminal(text: str, stream: TextIO) -> str:
    """``text`` as a QR code in half blocks, or nothing where ``stream`` could not show it: no
    terminal, no Unicode, or too narrow.
    """
    if not stream.isatty() or "utf" not in (stream.encoding or "").lower():
        return ""
    drawn = draw(text)
    width = max(len(line) for line in drawn.splitlines())
    try:
        columns = os.get_terminal_size(stream.fileno()).columns
    except OSError:
        return ""
    return drawn if width <= columns else ""


def draw(text: str) -> str:
    """``text`` as a QR code in half blocks, with its quiet zone, lines of equal width."""
    code = segno.make(text, error="m", micro=False)
    matrix = [list(row) for row in code.matrix_iter(border=2)]
    if len(matrix) % 2:
        matrix.append([0] * len(matrix[0]))
    out = io.StringIO()
    # Light on dark terminals: what is drawn is the light part.
    blocks = {(0, 0): "█", (0, 1): "▀", (1, 0): "▄", (1, 1): " "}
    for upper, lower in zip(matrix[::2], matrix[1::2], strict=True):
        for above, below in zip(upper, lower, strict=True):
            out.write(blocks[1 if above else 0, 1 if below else 0])
        out.write("\n")
    return out.getvalue()
