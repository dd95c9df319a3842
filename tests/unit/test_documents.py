"""What the documents say of tests: that they are there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
DOCUMENTS = TESTS.parent / "docs"

# `scenarios/test_x.py::test_y`, with or without tests/ before it; `::test_z` is in the file
# that was named last.
NAMED = re.compile(r"`(?:tests/)?((?:unit|scenarios|fuzz)/\w+\.py)?(?:::(test_\w+))?`")

# The least that such a document names: fewer, and the pattern is wrong.
LEAST = {"attacks.md": 15, "requirements.md": 50}


def named(text: str) -> Iterator[tuple[str, str]]:
    file = ""
    for found in NAMED.finditer(text):
        file = found[1] or file
        if found[1] or found[2]:
            yield file, found[2] or ""


@pytest.mark.parametrize("document", sorted(LEAST))
def test_every_test_that_a_document_names_is_there(document: str) -> None:
    names = list(named((DOCUMENTS / document).read_text()))
    assert len(names) >= LEAST[document]
    for file, function in names:
        assert (TESTS / file).is_file(), file
        if function:
            assert re.search(rf"def {function}\(", (TESTS / file).read_text()), (file, function)
