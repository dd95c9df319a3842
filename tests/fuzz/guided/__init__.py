"""Fuzzing that is guided by coverage: ``make fuzz``, and ``python -m tests.fuzz.guided NAME``.

``harnesses.py`` has one function for each parser of a peer's bytes, and seeds for it;
``__main__.py`` lets atheris look for more. What it finds stays in ``crashes/NAME`` and is replayed
by ``tests/fuzz/test_guided.py`` from then on, without atheris.
"""
