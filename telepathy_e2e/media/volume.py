"""How loud sound is sent and played (Telepathy's Audio_Control_Volume)."""

from __future__ import annotations

from array import array

FULL = 255
"""As it is: nothing is ever made louder, so that nothing is clipped."""


def scaled(pcm: bytes, volume: int) -> bytes:
    """Sound that is softer.

    Args:
        pcm: s16 in the machine's order.
        volume: 0 (silence) to ``FULL``, a share of the amplitude.
    """
    if volume >= FULL:
        return pcm
    if volume <= 0:
        return bytes(len(pcm))
    samples = array("h")
    samples.frombytes(pcm)
    # Rounded to the nearest: what is cut off downwards would be a sound of its own in silence.
    half = FULL // 2
    return array("h", [(each * volume + half) // FULL for each in samples]).tobytes()
