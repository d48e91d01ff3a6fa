"""Samples: streamed both ways, stable bytes, and every broken line named by its number."""

from __future__ import annotations

import json

import pytest

from figclip_cli.errors import InputError, VerificationError
from figclip_cli.evaluate.samples import Outcome, Sample, SamplesHeader, read_samples, write_samples

HEADER = SamplesHeader("retrieval", "captions.csv", "d" * 64, {"base": {"name": "tiny"}, "adapted": {"name": "run"}})


def sample(name, *, part="t2v", models=("base", "adapted"), text="a man runs", margin=0.5, rank=0.0):
    outcome = Outcome(right=margin > 0, margin=margin, rank=rank, chosen="clip-7")
    return Sample(id=name, part=part, look=name, text=text, outcomes=dict.fromkeys(models, outcome))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "r.samples.jsonl"


def test_what_is_written_is_read_again(path):
    samples = [sample("a"), sample("b", margin=-1.0, rank=2.5, text="“ö”\n"), sample("a", part="v2t", rank=None)]
    assert write_samples(path, samples, HEADER) == 3
    header, read = read_samples(path)
    assert list(read) == samples
    assert header == SamplesHeader(HEADER.task, HEADER.dataset_id, HEADER.dataset_sha256, HEADER.models, 3)


def test_lines_are_json_with_sorted_keys_after_a_header(path):
    write_samples(path, [sample("a")], HEADER)
    lines = path.read_text().splitlines()
    header, line = (json.loads(line) for line in lines)
    assert header["format"] == "figclip-samples" and header["counts"] == {"samples": 1, "parts": {"t2v": 1}}
    assert list(line) == sorted(line) and list(line["outcomes"]) == ["adapted", "base"]
    assert list(line["outcomes"]["base"]) == ["chosen", "margin", "rank", "right"]


def test_samples_are_written_and_read_one_at_a_time(path):
    taken = []

    def many():
        for number in range(5):
            taken.append(number)
            yield sample(str(number))

    write_samples(path, many(), HEADER)
    _, read = read_samples(path)
    assert next(read).id == "0" and taken == [0, 1, 2, 3, 4]
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:3], "broken", *lines[4:]]) + "\n")
    _, read = read_samples(path)
    assert [next(read).id, next(read).id] == ["0", "1"]
    with pytest.raises(InputError, match="line 4"):
        next(read)


def test_the_same_samples_give_the_same_bytes(path, tmp_path):
    write_samples(path, [sample("a"), sample("b")], HEADER)
    write_samples(tmp_path / "again.jsonl", [sample("a"), sample("b")], HEADER)
    assert path.read_bytes() == (tmp_path / "again.jsonl").read_bytes()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (sample("a", margin=float("nan")), "margin nan"),
        (sample("a", margin=float("-inf")), "margin -inf"),
        (sample("a", rank=float("inf")), "rank inf"),
        (sample("a", rank=-1.0), "rank -1.0"),
        (sample("a", models=("base",)), "has outcomes of base"),
        (sample("a", models=()), "has outcomes of no model"),
        (sample("first"), "sample 'first' of t2v is there already"),
    ],
)
def test_a_defect_of_a_task_is_never_written(path, wrong, message):
    with pytest.raises(VerificationError, match=message):
        write_samples(path, [sample("first"), wrong], HEADER)
    assert list(path.parent.iterdir()) == []


def test_a_text_that_is_not_unicode_is_refused(path):
    with pytest.raises(InputError, match="sample 'a': its text is not Unicode"):
        write_samples(path, [sample("a", text="\ud800")], HEADER)


def broken(path, change):
    """Write two samples, change the lines' objects, and read the file to its end."""
    write_samples(path, [sample("a"), sample("b")], HEADER)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    change(lines)
    path.write_text("\n".join(json.dumps(line) for line in lines) + "\n")
    with pytest.raises(InputError) as caught:
        list(read_samples(path)[1])
    return caught.value.message


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda lines: lines[0].update(format="figclip-prompts"), "line 1: the format is not"),
        (lambda lines: lines[0].update(format_version=9), "has format version 9, this figclip reads 1"),
        (lambda lines: lines[0].pop("models"), "line 1: Object missing required field `models`"),
        (lambda lines: lines[0].update(counts={"samples": "2"}), "line 1: Expected `int`"),
        (lambda lines: lines[0].update(dataset=None), "line 1: Expected `object`"),
        (lambda lines: lines[2].pop("id"), "line 3: Object missing required field `id`"),
        (lambda lines: lines[2].update(extra=1), "line 3: Object contains unknown field `extra`"),
        (lambda lines: lines[2].update(text=None), "line 3: Expected `str`"),
        (lambda lines: lines[2]["outcomes"]["base"].update(right=1), "line 3: Expected `bool`"),
        (lambda lines: lines[2]["outcomes"]["base"].update(margin=None), "line 3: Expected `float`"),
        (
            lambda lines: lines[2]["outcomes"]["base"].update(rank=-2),
            "line 3: sample 'b' of t2v has margin 0.5 and rank -2",
        ),
        (lambda lines: lines[2]["outcomes"].pop("base"), "line 3: sample 'b' of t2v has outcomes of adapted"),
        (lambda lines: lines[2].update(id="a"), "line 3: sample 'a' of t2v is there already"),
        (lambda lines: lines.pop(), "has 1 samples, its header says 2: the file is cut off"),
        (lambda lines: lines[0]["counts"].update(samples=1), "has 2 samples, its header says 1: lines were added"),
        (lambda lines: lines.insert(1, []), "line 2: Expected `object`"),
    ],
)
def test_a_broken_file_is_refused_with_the_line(path, change, message):
    assert message in broken(path, change)


@pytest.mark.parametrize(
    "content", [b"", b"\n", b"\xff\n", b"{\n", b"[]\n", b"[" * 10**5, b'{"format": ' + b"[" * 10**5]
)
def test_a_file_that_is_something_else_is_refused(path, content):
    path.write_bytes(content)
    with pytest.raises(InputError, match="r.samples.jsonl"):
        list(read_samples(path)[1])


@pytest.mark.parametrize(
    "line", [b"", b"\xff", b"{", b'{"id":"\\ud800"}', b"[" * 10**5, b'{"id":' + b"9" * 5000 + b"}"]
)
def test_a_line_that_is_something_else_is_refused(path, line):
    write_samples(path, [sample("a")], HEADER)
    path.write_bytes(path.read_bytes() + line + b"\n")
    with pytest.raises(InputError, match="line 3"):
        list(read_samples(path)[1])


def test_a_folder_and_nothing_are_refused(tmp_path):
    for path in (tmp_path, tmp_path / "absent"):
        with pytest.raises(InputError, match="samples file"):
            read_samples(path)
