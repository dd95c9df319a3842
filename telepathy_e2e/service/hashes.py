"""Hash functions of files (XEP-0300)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from telepathy_e2e.service.payload import Hash

# The algorithms of XEP-0300 that we compute, best first.
HASHES: dict[str, Callable[[], Hash]] = {
    "sha-256": hashlib.sha256,
    "sha-512": hashlib.sha512,
    "sha3-256": hashlib.sha3_256,
    "sha3-512": hashlib.sha3_512,
    "blake2b-512": lambda: hashlib.blake2b(digest_size=64),
    "blake2b-256": lambda: hashlib.blake2b(digest_size=32),
    "sha-384": hashlib.sha384,
}
