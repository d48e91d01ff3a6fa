"""METEOR 1.5 of sentences, by its authors' own program in Java, which the package pycocoevalcap brings along.

The measure (Denkowski and Lavie, 2014) needs a table of paraphrases and WordNet, which no other package has in a form
that gives the same numbers. The program is therefore an optional extra: ``pip install 'figclip-cli[meteor]'``, and
Java. It is started as ``pycocoevalcap.meteor.Meteor`` does it, with ``-l en -norm``.
"""

from __future__ import annotations

import importlib.util
import math
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from figclip_cli.errors import InputError, MachineError
from figclip_cli.reporting import SILENT, Reporter

_SEPARATOR = " ||| "
_JAR = Path("meteor") / "meteor-1.5.jar"
_HINT = "pip install 'figclip-cli[meteor]', and install Java"
_LONGEST_MESSAGE = 200
_SECONDS_TO_END = 10


def why_unavailable() -> str | None:
    """Return why METEOR cannot be computed on this machine, or None where it can."""
    if shutil.which("java") is None:
        return "there is no Java (no 'java' on the PATH)"
    if jar() is None:
        return "the package pycocoevalcap is not installed"
    return None


def jar() -> Path | None:
    """Return the program, where the package is installed."""
    spec = importlib.util.find_spec("pycocoevalcap")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        if (Path(folder) / _JAR).is_file():
            return (Path(folder) / _JAR).resolve()
    return None


class Meteor:
    """A running METEOR program; use it in a ``with`` block, at whose end it is stopped whatever happened.

    Args:
        reporter: Told how many pairs are counted, some hundreds a second.

    Raises:
        InputError: Java or the package is missing.
        MachineError: The program does not start, or ends early.
    """

    def __init__(self, reporter: Reporter = SILENT) -> None:
        program, reason = jar(), why_unavailable()
        if reason or program is None:
            raise InputError(f"METEOR cannot be computed: {reason}", _HINT)
        # Numbers are written with a point, and bytes are UTF-8, whatever the machine's language.
        settings = ("-Xmx2G", "-Dfile.encoding=UTF-8", "-Duser.language=en", "-Duser.country=US")
        command = ["java", *settings, "-jar", str(program), "-", "-", "-stdio", "-l", "en", "-norm"]
        # A pipe that nobody reads would stop the program once it is full.
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  (closed in close)
        try:
            self._process = subprocess.Popen(
                command, cwd=program.parent, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors
            )
        except OSError as error:
            self._errors.close()
            raise MachineError(f"METEOR does not start: {error.strerror or error}", _HINT) from error
        self._reporter = reporter
        self._known: dict[tuple[str, str], str] = {}

    def __enter__(self) -> Meteor:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop the program; nothing happens when it has stopped."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait(_SECONDS_TO_END)
        for stream in (self._process.stdin, self._process.stdout):
            with suppress(OSError):  # what was not sent yet has no reader any more
                stream.close()  # type: ignore[union-attr]
        self._errors.close()

    def of_groups(self, groups: Sequence[Sequence[tuple[str, str]]]) -> list[float]:
        """Return the METEOR of each group of pairs, which is made of their counts added up, from 0 to 1.

        Args:
            groups: Pairs of a hypothesis and its reference, in words with spaces between them; no group is empty.
        """
        self._count(pair for group in groups for pair in group)
        lines = [self._evaluation(group) for group in groups]
        answers = self._ask(lines, [len(group) + 1 for group in groups])
        return [self._number(answer[-1]) for answer in answers]

    def of_pairs(self, pairs: Sequence[tuple[str, str]]) -> list[float]:
        """Return the METEOR of each pair of a hypothesis and its reference, from 0 to 1."""
        distinct = list(dict.fromkeys(pairs))
        made = dict(zip(distinct, self.of_groups([[pair] for pair in distinct]), strict=True))
        return [made[pair] for pair in pairs]

    def _evaluation(self, group: Sequence[tuple[str, str]]) -> str:
        return _SEPARATOR.join(("EVAL", *(self._known[pair] for pair in group)))

    def _count(self, pairs: Iterable[tuple[str, str]]) -> None:
        """Have the counts made of the pairs that have none yet."""
        new = [pair for pair in dict.fromkeys(pairs) if pair not in self._known]
        if not new:
            return
        lines = [_SEPARATOR.join(("SCORE", _plain(reference), _plain(hypothesis))) for hypothesis, reference in new]
        with self._reporter.track("METEOR", len(new), "pairs of sentences") as progress:
            for pair, (answer,) in zip(new, self._ask(lines, [1] * len(lines)), strict=True):
                self._known[pair] = answer
                progress.advance()

    def _ask(self, lines: Sequence[str], answers: Sequence[int]) -> Iterator[list[str]]:
        """Send lines while yielding what is answered to each: neither side can wait for the other for ever."""
        sender = threading.Thread(target=self._send, args=(lines,), daemon=True)
        sender.start()
        for count in answers:
            yield [self._read() for _ in range(count)]
        sender.join()

    def _send(self, lines: Sequence[str]) -> None:
        assert self._process.stdin is not None
        try:
            for line in lines:
                self._process.stdin.write(line.encode() + b"\n")
            self._process.stdin.flush()
        except (OSError, ValueError):  # the program ended, which the reader sees and says
            return

    def _read(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line.endswith(b"\n"):
            raise MachineError(f"METEOR ended early{self._last_words()}", "is there enough memory? it needs 2 GB")
        return line.decode(errors="replace").strip()

    def _last_words(self) -> str:
        self._errors.seek(0)
        said = " ".join(self._errors.read().decode(errors="replace").split())
        return f": {said[:_LONGEST_MESSAGE]}" if said else ""

    def _number(self, text: str) -> float:
        try:
            number = float(text)
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            raise MachineError(f"METEOR answered {text[:40]!r} for a score", "is the package pycocoevalcap whole?")
        return number


def _plain(text: str) -> str:
    """Return a text that cannot be taken for several: one line, without the mark between fields."""
    return " ".join(text.replace("|||", "").splitlines())
