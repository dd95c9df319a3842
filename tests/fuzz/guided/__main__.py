"""``python -m tests.fuzz.guided [NAME...] [-- libFuzzer's options]``: look for what breaks them.

Each harness gets SECONDS (from the environment, 60 by default), in a process of its own; the corpus
grows in build/fuzz, and each run begins with what earlier ones left there. What breaks a harness is
kept in ``crashes/NAME``, and how to see it again is printed.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]
CORPORA = ROOT / "build" / "fuzz"
HERE = "tests.fuzz.guided"

# Seconds for one input, from which on it is one that hangs.
SLOWEST = 10
# Megabytes: far beyond what any bound lets a parser hold.
MOST_MEMORY = 2048


def words(seeds: list[bytes]) -> list[str]:
    """libFuzzer's dictionary of the names and namespaces in these seeds."""
    found = {
        word
        for seed in seeds
        for word in seed.replace(b"'", b'"').replace(b">", b'"').split(b'"')
        if 2 < len(word) < 60 and word.isascii() and word.decode().isprintable()
    }
    return ['"' + word.decode().replace("\\", "\\\\") + '"' for word in sorted(found)]


def fuzz(name: str, options: list[str]) -> None:
    """In this process, which ends with it."""
    import atheris

    # Inside, or nothing would be measured.
    with atheris.instrument_imports(include=["telepathy_e2e"]):
        from tests.fuzz.guided import harnesses

    corpus = CORPORA / name / "corpus"
    corpus.mkdir(parents=True, exist_ok=True)
    seeds = harnesses.seeds(name) + [each.read_bytes() for each in harnesses.crashes(name)]
    for seed in seeds:
        (corpus / hashlib.sha256(seed).hexdigest()[:16]).write_bytes(seed)
    dictionary = CORPORA / name / "words"
    dictionary.write_text("\n".join(words(seeds)) + "\n")
    found = harnesses.CRASHES / name
    found.mkdir(parents=True, exist_ok=True)
    given = [
        f"-artifact_prefix={found}/",
        f"-dict={dictionary}",
        f"-max_len={harnesses.LONGEST}",
        f"-timeout={SLOWEST}",
        f"-rss_limit_mb={MOST_MEMORY}",
        "-print_final_stats=0",
        *options,
    ]
    atheris.Setup([sys.argv[0], *given, str(corpus)], harnesses.HARNESSES[name])
    atheris.Fuzz()


def main(arguments: list[str]) -> int:
    """Each harness in turn; 1 if one of them broke."""
    if arguments[:1] == ["--one"]:
        fuzz(arguments[1], arguments[2:])
    from tests.fuzz.guided import harnesses

    end = arguments.index("--") if "--" in arguments else len(arguments)
    names, options = arguments[:end] or list(harnesses.HARNESSES), arguments[end + 1 :]
    seconds = os.environ.get("SECONDS", "60")
    broken = []
    for name in names:
        before = set(harnesses.crashes(name))
        command = [sys.executable, "-m", HERE, "--one", name, f"-max_total_time={seconds}"]
        print(f"== {name}, {seconds} s", flush=True)
        failed = subprocess.run([*command, *options], cwd=ROOT).returncode != 0
        new = sorted(set(harnesses.crashes(name)) - before)
        for each in new:
            print(f"{name} broke; again: {sys.executable} -m {HERE} --replay {each}")
        if failed or new:
            broken.append(name)
    print("broken: " + ", ".join(broken) if broken else "nothing broke")
    return 1 if broken else 0


def replay(file: Path) -> int:
    """One saved input through its harness, without atheris."""
    from tests.fuzz.guided import harnesses

    harnesses.HARNESSES[file.parent.name](file.read_bytes())
    print("it does not break any more")
    return 0


if __name__ == "__main__":
    if sys.argv[1:2] == ["--replay"]:
        sys.exit(replay(Path(sys.argv[2]).resolve()))
    sys.exit(main(sys.argv[1:]))
