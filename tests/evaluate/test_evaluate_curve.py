"""A run between its base and itself: the numbers at either end, what is in memory, curve files, and what was kept."""

from __future__ import annotations

import copy
import dataclasses
import gc
import json
import weakref
from pathlib import Path

import pytest
from samples import QUICK

from figclip_cli.adapt import AdaptOptions, SourceFiles, adapt
from figclip_cli.errors import InputError, UsageError
from figclip_cli.evaluate import encoders as encoders_module
from figclip_cli.evaluate.curve import drawing_path, make_curve, require_metric, results_path, write_curve
from figclip_cli.evaluate.curve_kept import Kept, read_kept, trade_off
from figclip_cli.evaluate.curve_reading import read_curve
from figclip_cli.evaluate.curve_scales import read_scales, scale_text
from figclip_cli.evaluate.datasets.captions import read_captions
from figclip_cli.evaluate.encoders import Encoding, encoders
from figclip_cli.evaluate.evaluation import Evaluation
from figclip_cli.evaluate.looked_at import score_models
from figclip_cli.evaluate.protocols import ProtocolOptions
from figclip_cli.evaluate.results import Metric, Results, read_results
from figclip_cli.evaluate.retrieval import evaluate_retrieval, evaluate_retrieval_at
from figclip_cli.evaluate.visuals import StoredClips, encoding
from figclip_cli.files import sha256_of_file
from figclip_cli.frames import FramesReader
from figclip_cli.models.adapted import attach_run, load_base
from figclip_cli.models.source import ModelSource
from figclip_cli.run_folder import RunFolder

SCALES = (0.0, 0.25, 0.5, 1.0)
PROTOCOL = ProtocolOptions().resolve()


@pytest.fixture(scope="module")
def tuned_run(prepared):
    """A finished run that tuned every weight of the image tower."""
    run = RunFolder(prepared / "runs" / "tuned")
    files = [SourceFiles((prepared / "frames.h5",), prepared / "prompts.jsonl")]
    options = AdaptOptions(**{**QUICK, "rank": 0, "epochs": 1})
    adapt(files, run, source=ModelSource(str(prepared / "base-model")), options=options)
    return run


@pytest.fixture(scope="module")
def clips(prepared):
    return StoredClips(FramesReader(prepared / "frames.h5"), PROTOCOL)


@pytest.fixture(scope="module")
def queries(prepared):
    return read_captions(prepared / "prompts.jsonl")


def outcomes(evaluation, model):
    return [one.outcomes[model] for one in evaluation.samples()]


def numbers(evaluation):
    return [(one.name, one.value, one.standard_error) for one in evaluation.results.metrics]


# Scales


@pytest.mark.parametrize(
    ("text", "scales"),
    [("0,1", (0, 1)), (" 1 , .5,0.25", (0.25, 0.5, 1)), ("1e-3,0.", (0, 0.001)), ("00.5,1", (0.5, 1))],
)
def test_scales_are_read_in_ascending_order(text, scales):
    assert read_scales(text) == scales and all(type(scale) is float for scale in read_scales(text))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "'' is no number"),
        ("1", "one scale is no curve"),
        ("0,,1", "'' is no number"),
        ("0,nan", "'nan' is no number"),
        ("0,inf", "'inf'"),
        ("0,-0.5", "'-0.5'"),
        ("-0,1", "'-0'"),
        ("0,1.01", "'1.01'"),
        ("0,0.5,.50", "names 0.5 twice"),
        ("0,1e-400", "names 0 twice"),
        ("0,0x1", "'0x1'"),
        ("0,1_0", "'1_0'"),
        ("0;1", "'0;1'"),
        ("0,٠.٥", "'٠.٥'"),
        ("0,half", "'half'"),
    ],
)
def test_scales_that_cannot_be_meant_are_refused(text, said):
    with pytest.raises(UsageError) as error:
        read_scales(text)
    assert said in error.value.message and "\n" not in error.value.message and error.value.hint


def test_no_two_scales_have_the_same_text():
    scales = [0.0, 1.0, 0.1, 0.1 + 1e-16, 1e-9, 0.123456789, 0.1234567891]
    assert len(set(map(scale_text, scales))) == len(set(scales))
    assert [scale_text(one) for one in (0, 0.25, 1)] == ["0", "0.25", "1"]


# Models at scales


@pytest.mark.parametrize("which", ["finished_run", "tuned_run"])
def test_every_scale_has_the_numbers_of_that_model_alone(which, request, clips, queries, tmp_path):
    """Whether updates are low-rank or whole weights: 0 is the base, 1 the run, and nothing is left of other scales."""
    run = request.getfixturevalue(which)
    settings = {"encoding": Encoding(PROTOCOL, tmp_path), "run": run}
    base_alone = evaluate_retrieval(load_base(run), clips, queries, encoding=Encoding(PROTOCOL))
    plain = evaluate_retrieval(load_base(run), clips, queries, **settings)
    scales = (0.0, 0.5, 1.0)
    made = evaluate_retrieval_at(scales, load_base(run), clips, queries, encoding=Encoding(PROTOCOL), run=run)
    assert len(made) == len(scales)
    assert numbers(made[0]) == numbers(base_alone) and outcomes(made[0], "adapted") == outcomes(base_alone, "base")
    assert numbers(made[-1]) == numbers(plain) and outcomes(made[-1], "adapted") == outcomes(plain, "adapted")
    assert made[-1].results.metrics == plain.results.metrics and made[-1].results.models == plain.results.models
    assert outcomes(made[0], "adapted") != outcomes(made[-1], "adapted")
    half = attach_run(load_base(run), run, scale=0.5)
    alone = evaluate_retrieval(half, clips, queries, encoding=Encoding(PROTOCOL))
    assert outcomes(made[1], "adapted") == outcomes(alone, "base") and numbers(made[1]) == numbers(alone)
    for evaluation, scale in zip(made, scales, strict=True):
        assert outcomes(evaluation, "base") == outcomes(base_alone, "base")
        assert evaluation.results.models["adapted"]["scale"] == scale
    at_base = made[0].results.metrics[0]
    assert (at_base.delta, at_base.delta_standard_error, at_base.p_value) == (0.0, 0.0, 1.0)
    assert [one.results.adapted_name for one in made] == [f"{run.name} at 0", f"{run.name} at 0.5", run.name]


@pytest.mark.parametrize("which", ["finished_run", "tuned_run"])
def test_features_go_away_from_the_base_as_the_scale_grows(which, request, clips):
    run = request.getfixturevalue(which)
    looks, features = [(clip_id, None) for clip_id in clips.reader.clip_ids], []
    for encoder in encoders(load_base(run), run, Encoding(PROTOCOL), (1e-6, *SCALES[1:])):
        features.append(encoder.looks(clips, looks).all())
    away = [float((one - features[0]).norm()) for one in features[1:]]
    assert away == sorted(away) and away[0] < 1e-4 < away[1] < away[-1]


def scored_at(scales, run, clip, clips, kept=None):
    """What is left of the models where a score is a look at the features alone."""
    looks = [(clip_id, None) for clip_id in clips.reader.clip_ids]
    return score_models(
        clip, run, Encoding(PROTOCOL, kept), clips, looks, lambda encoder, found: found.all().sum().item(), scales
    )


def test_the_base_is_encoded_once_and_each_scale_but_zero_once(finished_run, clips, tmp_path, monkeypatch):
    counts: dict[str, int] = {}
    real = encoding._encode

    def counted(clip, pixels, *rest):
        counts[clip.name] = counts.get(clip.name, 0) + len(pixels)
        return real(clip, pixels, *rest)

    monkeypatch.setattr(encoding, "_encode", counted)
    found = scored_at(SCALES, finished_run, load_base(finished_run), clips, tmp_path)
    frames = 6 * 5 * 4
    assert counts == {"base-model": frames, "quick at 0.25": frames, "quick at 0.5": frames, "quick": frames}
    assert found.adapted[0].made == found.base.made and len({one.made for one in found.adapted}) == len(SCALES)
    scored_at((1.0,), finished_run, load_base(finished_run), clips, tmp_path)
    again = scored_at((0, 0.25, 1), finished_run, load_base(finished_run), clips, tmp_path)
    assert [one.made for one in again.adapted] == [found.adapted[n].made for n in (0, 1, 3)]
    assert sum(counts.values()) == 4 * frames  # whole numbers are the same scales


@pytest.mark.parametrize("which", ["finished_run", "tuned_run"])
def test_there_are_never_more_than_two_models(which, request, clips, monkeypatch):
    run = request.getfixturevalue(which)
    clip, alive, most = load_base(run), [], []

    def attached(given, *rest, **more):
        alive.append(weakref.ref(given.model))
        most.append(len({id(ref()) for ref in (*alive, weakref.ref(clip.model)) if ref() is not None}))
        return attach_run(given, *rest, **more)

    monkeypatch.setattr(encoders_module, "attach_run", attached)
    gc.collect()
    gc.disable()
    try:
        scored_at((0.25, 0.5, 0.75, 1.0), run, clip, clips)
    finally:
        gc.enable()
    assert most == [2, 2, 2, 1]


# Curve files


def evaluation_of(scale, base=50.0, **more):
    """Results whose numbers are made up: ``up`` rises with the scale, ``MnR`` falls."""
    metrics = [
        Metric("t2v R@1", base + 10 * scale, 2.0, True, base, 2.0, 10 * scale, 1.0, n=8, p_value=0.5, test="t"),
        Metric("t2v MnR", 9.0 - 4 * scale, 0.5, False, 9.0, 0.5, -4 * scale, 0.25, n=8),
    ]
    facts = {
        "task": "zero-shot retrieval",
        "dataset_id": "x.csv",
        "dataset_sha256": "d" * 64,
        "asked": {"clips": 9, "texts": 8},
        "evaluated": {"clips": 8, "texts": 8},
        "missing": {"gone": "not there"},
        "protocol": {"ties": "average", "level": "video", "tied_queries": {"base": 1, "adapted": int(scale * 4)}},
        "models": {
            "base": {"name": "tiny", "sha256": "b" * 64},
            "adapted": {"name": f"run at {scale}", "adapter_sha256": "a" * 64, "scale": scale},
        },
        "metrics": tuple(metrics),
        "seeds": {"bootstrap": 0},
    }
    return Evaluation(Results(**{**facts, **more}), lambda: iter(()))


@pytest.fixture
def written(tmp_path):
    curve = make_curve([evaluation_of(one) for one in SCALES], SCALES, tmp_path / "c.json", run_name="run")
    write_curve(tmp_path / "c.json", curve.as_document(), "<svg/>")
    return tmp_path / "c.json", curve


def test_what_is_written_is_read_again_and_results_of_each_scale_lie_beside(written):
    path, curve = written
    assert read_curve(path) == curve and drawing_path(path).read_text() == "<svg/>"
    document = json.loads(path.read_text())
    assert (document["format"], document["format_version"], document["metric"]) == ("figclip-curve", 1, "t2v R@1")
    assert document["protocol"] == {"ties": "average", "level": "video"}
    assert document["models"]["adapted"] == {"name": "run", "adapter_sha256": "a" * 64}
    for scale, point in zip(SCALES, document["scales"], strict=True):
        beside = path.with_name(point["results"]["file"])
        assert beside == results_path(path, scale) and sha256_of_file(beside) == point["results"]["sha256"]
        assert read_results(beside).adapted_name == f"run at {scale}"
        assert point["protocol"] == {"tied_queries": {"base": 1, "adapted": int(scale * 4)}}
    assert results_path(path, 0.25).name == "c-0.25.json" and results_path(path, 1.0).name == "c-1.json"


def test_a_curve_and_results_are_not_mistaken_for_one_another(written):
    path, _ = written
    with pytest.raises(InputError, match="is a curve over scales, not the results of one") as error:
        read_results(path)
    assert "c-SCALE.json" in error.value.hint
    with pytest.raises(InputError, match="has results at one scale, it is no curve"):
        read_curve(results_path(path, 0.5))


def test_a_number_that_is_not_there_is_named_with_the_nearest():
    require_metric(None, ["top-1"])
    require_metric("top-1", ["top-1"])
    with pytest.raises(UsageError, match="no number 'top1'") as error:
        require_metric("top1", ["top-1", "per-class mean"])
    assert error.value.hint == "did you mean 'top-1'?"


def test_a_number_without_items_gives_the_usual_curve_and_a_warning(tmp_path):
    said = []

    class Teller:
        warn = staticmethod(said.append)

    made = [evaluation_of(one) for one in SCALES]
    curve = make_curve(made, SCALES, tmp_path / "c.json", run_name="run", metric="swap", reporter=Teller())
    assert curve.metric == "t2v R@1" and said == ["there is no item of 'swap': the curve is drawn of t2v R@1"]
    assert make_curve(made, SCALES, tmp_path / "c.json", run_name="run", metric="t2v MnR").metric == "t2v MnR"


def changed(document, *path, to):
    document = copy.deepcopy(document)
    node = document
    for key in path[:-1]:
        node = node[key]
    node[path[-1]] = to
    return document


WRONG = {
    "no format": (("format",), None, "format is not"),
    "version": (("format_version",), 2, "format version 2"),
    "true version": (("format_version",), True, "format version True"),
    "truth for a number": (("scales", 0, "scale"), True, "scales"),
    "text for a number": (("scales", 1, "metrics", 0, "value"), "1", "scales"),
    "order": (("scales", 1, "scale"), 0.9, "ascending"),
    "twice": (("scales", 1, "scale"), 0.0, "ascending"),
    "beyond": (("scales", 3, "scale"), 1.5, "ascending"),
    "no scales": (("scales",), [], "ascending"),
    "other numbers": (("scales", 1, "metrics", 0, "name"), "x", "do not have the same numbers"),
    "one number twice": (("scales", 0, "metrics", 1, "name"), "t2v R@1", "do not have the same numbers"),
    "no headline": (("metric",), "top-1", "'top-1', is not there"),
    "no base": (("scales", 2, "metrics", 0, "base_value"), None, "has no difference"),
    "no error": (("scales", 2, "metrics", 0, "delta_standard_error"), None, "has no difference"),
    "negative error": (("scales", 2, "metrics", 0, "standard_error"), -1.0, "negative"),
    "huge": (("scales", 2, "metrics", 0, "value"), 1e300, "out of all bounds"),
    "wrong difference": (("scales", 2, "metrics", 0, "delta"), 99.0, "is not its value less"),
    "another base": (("scales", 2, "metrics", 0, "base_value"), 50.0000001, "not the same at all scales"),
    "no run": (("models", "adapted"), {"name": "run"}, "the run has no hash"),
    "no base model": (("models", "base", "sha256"), 3, "the base model has no hash"),
    "unnamed": (("models", "base", "name"), None, "not named base and adapted"),
    "third model": (("models", "other"), {"name": "x"}, "not named base and adapted"),
    "counts": (("n_evaluated",), {"clips": 8}, "count different things"),
    "true count": (("n_evaluated", "clips"), True, "n_evaluated"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_damaged_curve_is_refused_in_one_line(name, written, tmp_path):
    path, _ = written
    keys, value, said = WRONG[name]
    (tmp_path / "bad.json").write_text(json.dumps(changed(json.loads(path.read_text()), *keys, to=value)))
    with pytest.raises(InputError) as error:
        read_curve(tmp_path / "bad.json")
    assert said in error.value.message and "bad.json" in error.value.message and "\n" not in error.value.message


@pytest.mark.parametrize(
    "content", [b"", b"\xff\xfe", b"[" * 100_000, b"[]", b"3", b"{}", b'{"format": "figclip-curve"}', b'{"a": NaN}']
)
def test_what_is_no_curve_at_all_is_refused(content, tmp_path):
    (tmp_path / "bad.json").write_bytes(content)
    with pytest.raises(InputError):
        read_curve(tmp_path / "bad.json")


def places(node, path=()):
    """Yield the path to everything in a JSON document."""
    yield path
    children = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, child in children:
        yield from places(child, (*path, key))


def test_any_value_in_any_place_is_read_or_refused_and_never_crashes(written, tmp_path):
    path, _ = written
    document = json.loads(path.read_text())
    document["scales"] = document["scales"][:2]
    refused = 0
    for place in list(places(document))[1:]:
        if place[0] == "environment":
            continue
        for value in (None, True, -1, "x", [], {}, [None], {"name": 3}, 1e308):
            (tmp_path / "bad.json").write_text(json.dumps(changed(document, *place, to=value)))
            try:
                read_curve(tmp_path / "bad.json")
            except InputError:
                refused += 1
    assert refused > 500


# What was kept


def curve_of(path, run=None, base="b" * 64, scales=SCALES, **more):
    """A curve file of made-up numbers, of a run's own adapter."""
    models = {"base": {"name": "tiny", "sha256": base}, "adapted": {"name": "run", "adapter_sha256": "a" * 64}}
    if run is not None:
        models["base"]["sha256"] = run.load_config()["model"]["sha256"] if base == "b" * 64 else base
        models["adapted"]["adapter_sha256"] = sha256_of_file(run.adapter_file)
    made = [evaluation_of(one, models=models, **more) for one in scales]
    curve = make_curve(made, scales, path, run_name="run", samples=False)
    write_curve(path, curve.as_document(), "")
    return path


def test_a_curve_of_the_same_run_and_base_is_taken(finished_run, tmp_path):
    path = curve_of(tmp_path / "k.json", finished_run)
    kept = read_kept(path, finished_run, (0.0, 0.5, 0.75))
    assert kept.curve == read_curve(path) and kept.sha256 == sha256_of_file(path)
    kept.refuse_same(("zero-shot retrieval", "d" * 64, "event"))
    kept.refuse_same(("zero-shot action recognition", "d" * 64, None))
    with pytest.raises(InputError, match="is itself a curve of zero-shot retrieval on x.csv"):
        kept.refuse_same(("zero-shot retrieval", "d" * 64, "video"))


def test_a_curve_of_another_run_base_or_of_other_scales_is_refused(finished_run, tuned_run, tmp_path):
    path = curve_of(tmp_path / "k.json", finished_run)
    with pytest.raises(InputError, match=r"is of another run \('run'\)"):
        read_kept(path, tuned_run, SCALES)
    with pytest.raises(InputError, match=r"0.25, 0.5, 1: 0.5 alone is among --scales 0.1, 0.5"):
        read_kept(path, finished_run, (0.1, 0.5))
    with pytest.raises(InputError, match="none is among --scales 0.1, 0.2"):
        read_kept(path, finished_run, (0.1, 0.2))
    other = curve_of(tmp_path / "o.json", finished_run, base="c" * 64)
    with pytest.raises(InputError, match=r"is of another base model \('tiny'\)"):
        read_kept(other, finished_run, SCALES)


def trade_with(tmp_path, changes, scales=SCALES, higher=True):
    """Gains of 10 a unit of scale against the given (change, error) of what is kept."""
    curve = read_curve(curve_of(tmp_path / "c.json"))
    points = []
    for scale, (delta, error) in zip(scales, changes, strict=True):
        points.append(
            evaluation_of(scale, metrics=(Metric("top-1", 70 + delta, 1.0, higher, 70.0, 1.0, delta, error),))
        )
    kept = make_curve(points, scales, tmp_path / "k.json", run_name="run", samples=False)
    return trade_off(curve, Kept(Path("k.json"), "", kept))


@pytest.mark.parametrize(
    ("changes", "higher", "largest"),
    [
        ([(0, 0), (-0.5, 1), (-1, 1), (-3, 1)], True, 0.5),  # exactly one standard error is within
        ([(0, 0), (-2, 1), (-1, 2), (-3, 1)], True, 0.5),  # a smaller scale that loses more does not matter
        ([(0, 0), (-2, 1), (-2, 1), (2, 1)], True, 1.0),
        ([(0, 0), (-2, 1), (-2, 1), (-2, 1)], True, 0.0),
        ([(0, 0), (2, 1), (-9, 1), (3, 1)], False, 0.5),  # where lower is better, a fall is no loss
    ],
)
def test_how_far_one_can_go_and_lose_no_more_than_one_standard_error(changes, higher, largest, tmp_path):
    trade = trade_with(tmp_path, changes, higher=higher)
    assert trade.largest_within_one_error.scale == largest
    document = trade.as_document()
    assert document["largest_scale_within_one_standard_error"] == largest
    assert [one["scale"] for one in document["points"]] == list(SCALES)
    assert [one["gained"]["delta"] for one in document["points"]] == [10 * scale for scale in SCALES]
    assert [one["kept"]["delta"] for one in document["points"]] == [delta for delta, _ in changes]


def test_only_scales_of_both_are_put_together_and_there_may_be_none_that_keeps(tmp_path):
    trade = trade_with(tmp_path, [(-2, 1), (-3, 1)], scales=(0.5, 1.0))
    assert [one.scale for one in trade.points] == [0.5, 1.0] and trade.largest_within_one_error is None
    assert trade.as_document()["largest_scale_within_one_standard_error"] is None
    assert dataclasses.replace(trade, points=trade.points[:1]).as_document()["points"][0]["scale"] == 0.5
