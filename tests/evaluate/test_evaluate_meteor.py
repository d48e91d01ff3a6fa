"""METEOR's program: talked to without a deadlock, stopped at the end, and refused in one line where it is missing."""

from __future__ import annotations

import os
import sys

import pytest

from figclip_cli.errors import InputError, MachineError
from figclip_cli.evaluate.metrics import meteor
from figclip_cli.evaluate.metrics.meteor import Meteor, why_unavailable

# A METEOR of nobody's: the counts of a pair are the numbers of their words, the score of a group their quotient.
PROGRAM = """
import os, sys
open("pid", "w").write(str(os.getpid()))
sys.stderr.write("x" * 200_000)
for line in sys.stdin:
    kind, *fields = line.rstrip("\\n").split(" ||| ")
    if kind == "SCORE":
        reference, hypothesis = fields
        if "die" in hypothesis:
            sys.stderr.write("out of memory")
            break
        print(len(hypothesis.split()), len(reference.split()), "padding" * (300 if "long" in hypothesis else 0))
    else:
        counts = [[int(one) for one in field.split()[:2]] for field in fields]
        for own, other in [*counts, [sum(column) for column in zip(*counts)]]:
            print(own / other if other else "none")
    sys.stdout.flush()
"""


@pytest.fixture
def program(tmp_path, monkeypatch):
    """A program named java on the PATH, and a jar to start."""
    script, java, jar = tmp_path / "program.py", tmp_path / "java", tmp_path / "meteor-1.5.jar"
    script.write_text(PROGRAM)
    java.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{script}"\n')
    java.chmod(0o755)
    jar.touch()
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(meteor, "jar", lambda: jar)
    return tmp_path


def is_running(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_groups_are_of_counts_added_up_and_pairs_alone(program):
    pairs = [("a b", "a b c d"), ("a", "a"), ("a b", "a b c d")]
    with Meteor() as running:
        assert running.of_pairs(pairs) == [0.5, 1.0, 0.5]
        assert running.of_groups([pairs, pairs[:1]]) == [5 / 9, 0.5]
        assert running.of_groups([]) == running.of_pairs([]) == []
        pid = int((program / "pid").read_text())
        assert is_running(pid)
    assert not is_running(pid)


def test_more_than_any_pipe_holds_goes_through_both_ways(program):
    pairs = [(f"long {'word ' * 20}{number}", "a b") for number in range(3000)]
    with Meteor() as running:
        assert running.of_pairs(pairs) == [11.0] * 3000


def test_a_program_that_ends_early_is_said_so_and_is_gone(program):
    with pytest.raises(MachineError, match="METEOR ended early"), Meteor() as running:
        running.of_pairs([("a", "b"), ("die", "b"), *((f"{number}", "b") for number in range(50_000))])
    assert not is_running(int((program / "pid").read_text()))


def test_the_program_is_stopped_when_something_else_fails(program):
    with pytest.raises(KeyboardInterrupt), Meteor() as running:
        running.of_pairs([("a", "b")])
        raise KeyboardInterrupt
    assert not is_running(int((program / "pid").read_text()))


def test_an_answer_that_is_no_number_is_refused(program):
    with Meteor() as running, pytest.raises(MachineError, match="METEOR answered 'none'"):
        running.of_pairs([("a", "")])


def test_a_sentence_cannot_pass_for_two(program):
    with Meteor() as running:
        assert running.of_pairs([("a ||| b", "a\nb c ||| d")]) == [0.5]


def test_without_java_or_the_package_it_is_refused_in_one_line(monkeypatch, tmp_path):
    monkeypatch.setattr(meteor, "jar", lambda: None)
    monkeypatch.setattr(meteor.shutil, "which", lambda name: "/usr/bin/java")
    assert why_unavailable() == "the package pycocoevalcap is not installed"
    monkeypatch.setattr(meteor.shutil, "which", lambda name: None)
    with pytest.raises(InputError, match="METEOR cannot be computed: there is no Java") as caught:
        Meteor()
    assert "figclip-cli\\[meteor]".replace("\\", "") in caught.value.hint


@pytest.mark.slow
@pytest.mark.skipif(
    os.environ.get("FIGCLIP_METEOR_TESTS") != "1", reason="starts Java twice, half a minute; FIGCLIP_METEOR_TESTS=1"
)
def test_scores_are_those_of_pycocoevalcap():
    theirs = pytest.importorskip("pycocoevalcap.meteor.meteor")
    if why_unavailable():
        pytest.skip(str(why_unavailable()))
    sentences = [
        "a man is running down the street",
        "a woman runs along the road",
        "the dog 's owner does n't move",
        "",
        "1\N{NO-BREAK SPACE}1/2 cups of flour -lrb- sifted -rrb-",
        "abc123 @ #",
    ]
    pairs = [(first, second) for first in sentences for second in sentences]
    with Meteor() as running:
        alone, together = running.of_pairs(pairs), running.of_groups([pairs, pairs[:5]])
    other = theirs.Meteor()

    def score(group):
        return other.compute_score(
            {number: [reference] for number, (_, reference) in enumerate(group)},
            {number: [hypothesis] for number, (hypothesis, _) in enumerate(group)},
        )

    whole, each = score(pairs)
    assert alone == each
    assert together == [whole, score(pairs[:5])[0]]
    swapped = [alone[pairs.index((second, first))] for first, second in pairs]
    assert swapped != alone  # METEOR is not symmetric, which is what swapped arguments change
