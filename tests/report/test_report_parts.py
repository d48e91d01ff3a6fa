"""Numbers and choices of a report against worked cases: means, updates, items, words for differences, charts."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET

import crafted
import msgspec
import numpy as np
import pytest
from safetensors.numpy import load_file

from figclip_cli.errors import InputError
from figclip_cli.report import ReportMaterial, write_report
from figclip_cli.report.charts import Chart, Series, draw
from figclip_cli.report.chosen_items import choose_items
from figclip_cli.report.found import RunResults
from figclip_cli.report.runs import open_runs, versions_of, words_of
from figclip_cli.report.texts import brief, plain, reading, whole, with_error
from figclip_cli.report.training_log import read_training_log
from figclip_cli.report.updates import update_norms


def log_of(tmp_path, *lines):
    path = tmp_path / "metrics.jsonl"
    path.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines))
    return path


def test_steps_become_few_means_with_their_errors(tmp_path):
    lines = [{"step": n, "epoch": 1, "loss": float(n), "clips": 2, "gradient_norm": None} for n in range(1, 102)]
    log = read_training_log(log_of(tmp_path, *lines))
    means = log.means("loss")
    assert [means[0].step, means[0].mean, means[0].n] == [3, 2.0, 3]
    assert means[0].standard_error == pytest.approx(1 / np.sqrt(3))
    assert sum(one.n for one in means) == 101 and len(means) <= 40 and means[-1].step == 101
    assert log.losses == ["loss"]


def test_validation_stands_apart_from_steps(tmp_path):
    lines = {"step": 1, "epoch": 1, "loss": 1.0}, {"step": 1, "epoch": 1, "validation": {"event_mrr": 0.5}}
    log = read_training_log(log_of(tmp_path, *lines))
    assert len(log.steps) == 1 and log.measures == ["event_mrr"]


@pytest.mark.parametrize(
    "line",
    ["{", "[]", '{"step": 1}', '{"step": "1", "epoch": 1}', '{"step": 1, "epoch": 1, "loss": NaN}',
     '{"step": 1, "epoch": 1, "loss": 1e31}', '{"step": 1, "epoch": 1, "loss": {"a": 1}}', "[" * 5000,
     '{"step": 1, "epoch": 1, "validation": {"a": "b"}}', '{"step": 1, "epoch": 1, "validation": {"a": 1e40}}'],
)  # fmt: skip
def test_a_log_that_lies_is_refused_by_its_line(tmp_path, line):
    path = log_of(tmp_path, {"step": 1, "epoch": 1, "loss": 1.0}, line)
    with pytest.raises(InputError, match="line 2"):
        read_training_log(path)


def test_update_norms_are_those_of_the_products(tmp_path):
    (run,) = open_runs([crafted.craft_run(tmp_path, seed=3)])
    tensors = load_file(run.folder.adapter_file)
    norms = update_norms(run)
    for module in crafted.MODULES:
        products = [tensors[f"{module}.{p}.lora_B"].astype(float) @ tensors[f"{module}.{p}.lora_A"] for p in "qkv"]
        assert norms[module] == pytest.approx(np.sqrt(sum((one**2).sum() for one in products)), rel=1e-6)
    run.folder.adapter_file.write_bytes(b"no tensors")
    with pytest.raises(InputError, match="cannot be read"):
        update_norms(run)


def entry_of(tmp_path, samples):
    run = crafted.craft_run(tmp_path)
    path = tmp_path / "results" / "r.json"
    results = crafted.retrieval_of(run).write(path, samples)
    return RunResults(path, open_runs([run])[0], results, {})


def test_items_are_chosen_by_what_changed_most_one_of_a_clip(tmp_path):
    looks = [f"v_{n}#0" for n in range(6)]
    samples = [
        crafted.sample(0, "won by little", looks[0], base=1, run=None),
        crafted.sample(1, "won by much", looks[1], base=9, run=None),
        crafted.sample(2, "won, same clip", looks[1], base=8, run=None),
        crafted.sample(3, "lost", looks[2], base=None, run=4, chosen=looks[5]),
        crafted.sample(4, "fails worst", looks[3], base=2, run=20),
        crafted.sample(5, "right", looks[4], base=None, run=None),
        crafted.sample(6, "wrong clip's text", looks[5], base=None, run=None),
        crafted.sample(7, "a clip as a query", looks[0], base=None, run=3, part="v2t"),
    ]
    found = choose_items(entry_of(tmp_path, samples), "t2v", 2)
    assert [one.text for one in found.better] == ["won by much", "won by little"]
    assert [one.text for one in found.failing] == ["fails worst"]
    assert [one.text for one in found.worse] == ["lost"]
    assert found.counts == (2, 1, 3, 1) and found.n == 7
    assert found.texts[looks[5]] == "wrong clip's text"


@pytest.mark.parametrize("where", ["look", "chosen"])
def test_an_event_of_thousands_of_digits_is_no_event(tmp_path, where):
    frames, content = crafted.write_frames(tmp_path, ["v_a"])
    run = crafted.craft_run(tmp_path)
    long = "v_a#" + "9" * 5000
    item = crafted.sample(0, "x", long if where == "look" else "v_a#0", base=2, run=None, chosen=long)
    path = tmp_path / "results" / "r.json"
    crafted.retrieval_of(run, frames=content).write(path, [item])
    made = write_report([run], tmp_path / "a.html", ReportMaterial(results=[path], frames=[frames]))
    assert "no frames of it" in made.path.read_text()


@pytest.mark.parametrize(("item", "pictures", "said"), [("v_a/0/2/7", 2, "event 3"), ("v_a/0/clip/7", 3, "the clip"),
                                                        ("v_a/0/" + "9" * 5000 + "/7", 3, "the clip"),
                                                        ("v_b/0/2/7", 3, "the clip")])  # fmt: skip
def test_a_choice_of_an_event_shows_the_frames_of_that_event(tmp_path, item, pictures, said):
    frames, content = crafted.write_frames(tmp_path, ["v_a"])
    run = crafted.craft_run(tmp_path)
    protocol = {"benchmark": "choices", "frames_content_sha256": content}
    results = crafted.results_of(run, "compositional", "mine", [crafted.metric("x", 1, 2)], protocol=protocol)
    one = crafted.sample(0, "a cat", "v_a", base=1, run=None, part="x", chosen="a dog")
    path = tmp_path / "results" / "c.json"
    results.write(path, [msgspec.structs.replace(one, id=item)])
    made = write_report([run], tmp_path / "a.html", ReportMaterial(results=[path], frames=[frames]))
    assert made.pictures == pictures and said in made.path.read_text()


@pytest.mark.parametrize(("key", "value"), [("alpha", 1e308), ("alpha", 10**400), ("rank", 10**400)])
def test_a_lora_that_is_out_of_all_bounds_is_refused(tmp_path, key, value):
    run = crafted.craft_run(tmp_path)
    config = json.loads(run.config_file.read_text())
    config["lora"][key] = value
    run.config_file.write_text(json.dumps(config))
    with pytest.raises(InputError, match=r"config\.json"):
        write_report([run], tmp_path / "a.html", ReportMaterial(results=[], frames=[]))


@pytest.mark.parametrize(
    ("selected", "best_by", "said"),
    [
        ("last", None, "the last state, after step 3"),
        ("best", "event_mrr", "the best state by event_mrr, after step 3"),
    ],
)
def test_the_summary_says_which_state_is_shown(tmp_path, selected, best_by, said):
    run = crafted.craft_run(tmp_path)
    config = json.loads(run.config_file.read_text())
    config["result"] |= {"selected": selected, "best_by": best_by}
    run.config_file.write_text(json.dumps(config))
    text = write_report([run], tmp_path / "a.html", ReportMaterial(results=[], frames=[])).path.read_text()
    assert said in re.sub("</?bdi>", "", text)


def test_a_trade_off_is_only_said_of_scales_that_were_evaluated(tmp_path):
    run = crafted.craft_run(tmp_path)
    curves = [crafted.write_scales(tmp_path, run, name="gained")]
    curves += [crafted.write_scales(tmp_path, run, "zero-shot action recognition", name="kept", gain=-3.0)]
    text = write_report(
        [run], tmp_path / "a.html", ReportMaterial(results=[], curves=curves, frames=[])
    ).path.read_text()
    assert "within one standard error at scale 0.5, and at no larger one of these" in text and "up to scale" not in text


def test_changed_samples_are_refused_and_absent_ones_said(tmp_path):
    entry = entry_of(tmp_path, crafted.retrieval_samples(["v_a#0"], ["x"]))
    beside = tmp_path / "results" / "r.samples.jsonl"
    beside.write_text(beside.read_text() + " ")
    with pytest.raises(InputError, match="is not the one that was written"):
        write_report([entry.run.folder], tmp_path / "a.html", ReportMaterial(results=[entry.file], frames=[]))
    beside.unlink()
    write_report([entry.run.folder], tmp_path / "a.html", ReportMaterial(results=[entry.file], frames=[]))
    assert "The outcomes of single items are not beside" in (tmp_path / "a.html").read_text()


@pytest.mark.parametrize(
    ("base", "value", "p_value", "error", "higher", "said"),
    [
        (20, 30, 0.01, 2.0, True, "better"),
        (20, 30, 0.01, 2.0, False, "worse"),
        (20, 30, 0.2, 2.0, True, "no clear difference"),
        (20, 15, 0.01, 2.0, True, "worse"),
        (20, 30, None, 2.0, True, "better"),
        (20, 21, None, 2.0, True, "no clear difference"),
        (20, 20, None, 0.0, True, "no clear difference"),
    ],
)
def test_a_difference_is_called_what_its_test_says(base, value, p_value, error, higher, said):
    assert reading(crafted.metric("x", base, value, p_value=p_value, error=error, higher=higher)) == said


def test_numbers_carry_sign_and_error():
    assert with_error(-1.5, 0.25, signed=True) == "−1.50 ± 0.25" and with_error(2.0, 0.1, signed=True) == "+2.00 ± 0.10"
    assert with_error(None, None) == "not recorded" and "no error recorded" in with_error(1.0, None)


def test_texts_are_whole_where_they_must_be_and_cut_where_not():
    assert whole("<" * 1000) == "&lt;" * 1000
    assert len(brief("x" * 999)) == 60 and "\u202e" not in plain("a\u202eb\x00\nc", 20)


@pytest.mark.parametrize("environment", [{}, {"command": "x"}, {"command": [1]}, {"command": []}, {"packages": [1]}])
def test_an_environment_that_says_nothing_is_taken_for_that(environment):
    assert words_of(environment) == [] and versions_of(environment) == {}


def test_a_chart_is_the_same_again_and_all_its_names_are_its_own():
    series = [Series(text, n, [0, 1, 2], [1, n, 2], y_errors=[0.1] * 3, marks=["0", text, "1"])
              for n, text in enumerate(crafted.HOSTILE[:7])]  # fmt: skip
    chart = Chart("one", crafted.ALL, crafted.ALL, crafted.HOSTILE[8], crafted.HOSTILE[0], series, base_y=1.0)
    drawn = draw(chart)
    assert drawn == draw(chart)
    root = ET.fromstring(drawn)
    ids = [one.get("id") for one in root.iter() if one.get("id")]
    assert len(ids) == len(set(ids)) and all(one.startswith("one-") for one in ids)
    targets = re.findall(r"url\(#([^)]*)\)", drawn) + [one.get("href")[1:] for one in root.iter() if one.get("href")]
    assert targets and set(targets) <= set(ids)
    assert not re.search("#[0-9a-f]{6}|font-family|xlink", drawn)
    assert {one.tag.rpartition("}")[2] for one in root.iter()} <= {"svg", "title", "desc", "g", "defs", "path", "use",
                                                                   "text", "clipPath", "rect"}  # fmt: skip
    texts = ["".join(one.itertext()) for one in root.iter() if one.tag.endswith("}text")]
    assert any(r"$\frac{1}{0}$ _x" in text for text in texts)


def test_rows_of_dots_hold_any_name():
    series = [Series("base", 0, [1, 2], [0, 1], x_errors=[0.1, 0.1]), Series("_run", 1, [2, 3], [0, 1])]
    drawn = draw(Chart("dots", "t", "d", "x", "", series, rows=["w" * 10_000, ""]))
    texts = {"".join(one.itertext()) for one in ET.fromstring(drawn).iter() if one.tag.endswith("}text")}
    assert {"(no name)", "_run", "base"} <= texts
