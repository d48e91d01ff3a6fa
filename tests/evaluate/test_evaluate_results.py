"""The result schema: what is written is read again, defects are refused, and samples belong to their results."""

from __future__ import annotations

import json

import pytest

from figclip_cli.errors import InputError, VerificationError
from figclip_cli.evaluate.results import Metric, Results, read_results, samples_beside, samples_path
from figclip_cli.evaluate.samples import Outcome, Sample, read_samples


def results_of(**changes):
    facts = {
        "task": "compositional",
        "dataset_id": "sugarcrepe",
        "dataset_sha256": "d" * 64,
        "asked": {"items": 3},
        "evaluated": {"items": 2},
        "missing": {"3": "no image"},
        "protocol": {"ties": "wrong"},
        "models": {"base": {"name": "tiny", "sha256": "b" * 64}, "adapted": {"name": "run", "adapter_sha256": "a"}},
        "metrics": (Metric("swap", 60.0, 1.5, True, 50.0, 2.0, 10.0, 1.0, n=2, p_value=0.5, test="exact McNemar"),),
        "groups": (Metric("swap", 100.0, 0.0, True, n=1, group="on", deviation=0.2),),
        "seeds": {"bootstrap": 0},
    }
    return Results(**{**facts, **changes})


def sample(name, **changes):
    outcomes = {model: Outcome(right=True, margin=0.25, chosen="a man") for model in ("base", "adapted")}
    return Sample(**{"id": name, "part": "swap", "text": "a man", "outcomes": outcomes, **changes})


@pytest.fixture
def written(tmp_path):
    results = results_of().write(tmp_path / "r.json", samples=iter([sample("1"), sample("2")]))
    return tmp_path / "r.json", results


def test_what_is_written_is_read_again(written):
    path, results = written
    assert read_results(path) == results
    assert results.samples["file"] == "r.samples.jsonl" and results.samples["count"] == 2
    document = json.loads(path.read_text())
    assert document["format_version"] == 2 and document["samples"] == results.samples
    assert document["metrics"][0]["p_value"] == 0.5 and document["groups"][0]["group"] == "on"


def test_results_without_samples_are_read_and_have_none(tmp_path):
    assert results_of().write(tmp_path / "r.json").samples is None
    read = read_results(tmp_path / "r.json")
    assert read == results_of() and not (tmp_path / "r.samples.jsonl").exists()
    with pytest.raises(InputError, match="has no outcomes of single items"):
        samples_beside(tmp_path / "r.json", read)


def test_samples_are_found_beside_their_results(written):
    path, results = written
    header, samples = read_samples(samples_beside(path, results))
    assert (header.task, header.dataset_id, header.count) == ("compositional", "sugarcrepe", 2)
    assert header.models == results.models and [s.id for s in samples] == ["1", "2"]


def test_no_two_results_have_the_same_samples(tmp_path):
    names = [
        "x.json",
        "x",
        "v1.0",
        "v1.5",
        "v1.0.json",
        "x.samples",
        "x.json.json",
        "x-samples.json",
        "x.JSON",
        ".json",
    ]
    found = {samples_path(tmp_path / name) for name in names}
    assert len(found) == len(names) and not found & {tmp_path / name for name in names}
    assert samples_path(tmp_path / "v1.0.json") == tmp_path / "v1.0.samples.jsonl"


def test_samples_that_are_gone_or_changed_are_refused(written):
    path, results = written
    beside = path.with_name("r.samples.jsonl")
    beside.write_text(beside.read_text().replace('"right":true', '"right":false', 1))
    with pytest.raises(InputError, match="not the one that was written with r.json"):
        samples_beside(path, results)
    beside.unlink()
    with pytest.raises(InputError, match="r.samples.jsonl does not exist"):
        samples_beside(path, results)


def test_results_are_not_written_when_their_samples_are_wrong(tmp_path):
    with pytest.raises(VerificationError, match="sample '1' of swap is there already"):
        results_of().write(tmp_path / "r.json", samples=[sample("1"), sample("1")])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("field", ["value", "standard_error", "base_value", "delta", "p_value", "deviation"])
@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_a_number_that_is_not_finite_is_a_defect(field, number):
    with pytest.raises(VerificationError, match=f"{field} of metric 'x' of on is"):
        Metric(
            **{"name": "x", "value": 1.0, "standard_error": 0.0, "higher_is_better": True, "group": "on"}
            | {field: number}
        )
    with pytest.raises(VerificationError, match="value of metric 'x' is None"):
        Metric("x", None, 0.0, True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.update(format="else"), "the format is not 'figclip-results'"),
        (lambda d: d.update(format_version=1), "has format version 1, this figclip reads 2"),
        (lambda d: d.update(format_version=[2]), r"has format version \[2\]"),
        (lambda d: d.pop("task"), "missing required field `task`"),
        (lambda d: d.update(metrics={}), r"\$.metrics"),
        (lambda d: d["metrics"][0].update(value="high"), r"\$.metrics\[0\].value"),
        (lambda d: d["metrics"][0].update(value=None), r"\$.metrics\[0\].value"),
        (lambda d: d["metrics"][0].pop("name"), r"`name`.*\$.metrics\[0\]"),
        (lambda d: d.update(models={"base": {}}), "models are not named base and adapted"),
        (lambda d: d.update(models={"adapted": {"name": "x"}}), "models are not named base and adapted"),
        (lambda d: d["models"].update(third={"name": "x"}), "models are not named base and adapted"),
        (lambda d: d.update(n_asked={"clips": 1}), "count different things"),
        (lambda d: d.update(samples={"file": "../x", "sha256": "", "count": 1}), "samples are not beside it"),
        (lambda d: d.update(samples={"file": "x"}), r"`sha256`.*\$.samples"),
    ],
)
def test_a_file_that_breaks_the_format_is_refused_with_the_place(written, change, message):
    path, _ = written
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))
    with pytest.raises(InputError, match=message) as caught:
        read_results(path)
    assert str(path) in caught.value.message and caught.value.hint


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"\xff\xfe", b"null", b"3", b"[" * 10**5, b'{"format": NaN}'])
def test_a_file_that_is_something_else_is_refused(tmp_path, content):
    (tmp_path / "r.json").write_bytes(content)
    with pytest.raises(InputError, match="r.json"):
        read_results(tmp_path / "r.json")


def test_a_number_too_large_is_refused(written):
    path, _ = written
    path.write_text(path.read_text().replace('"value": 60.0', '"value": 1e999'))
    with pytest.raises(InputError, match="r.json"):
        read_results(path)


def test_a_folder_and_nothing_are_refused(tmp_path):
    for path in (tmp_path, tmp_path / "absent.json"):
        with pytest.raises(InputError, match="results file"):
            read_results(path)
