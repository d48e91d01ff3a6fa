"""The stage with its options: what each does to a whole run."""

from __future__ import annotations

import dataclasses
import json
import math
import shutil

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from figclip_cli.adapt import AdaptOptions, ClipLists, Execution, SourceFiles, adapt
from figclip_cli.adapt import step as step_module
from figclip_cli.adapt.batches import Batches
from figclip_cli.adapt.contextual_tokens import read_tokens
from figclip_cli.errors import InputError, MachineError, UsageError, VerificationError
from figclip_cli.frames import FramesReader, SamplingRecipe, extract
from figclip_cli.models.adapted import attach_run, load_base, load_contextualizer
from figclip_cli.models.clip import load_clip
from figclip_cli.models.pooling import pool_frames
from figclip_cli.models.source import ModelSource
from figclip_cli.reporting import SilentReporter
from figclip_cli.run_folder import RunFolder

QUICK = AdaptOptions(rank=2, epochs=2, batch_clips=3, learning_rate=1e-2, contextualizer_layers=1)
HELD_OUT = ["v_clip0000004_seg_0_10", "v_clip0000005_seg_0_10"]


class Listening(SilentReporter):
    """Keeps what was said."""

    def __init__(self):
        self.said = []

    def info(self, message):
        self.said.append(message)

    warn = detail = info


def run_adapt(prepared, folder, files=None, **flags):
    files = files or [SourceFiles((prepared / "frames.h5",), prepared / "prompts.jsonl")]
    flags = {"options": QUICK, "source": ModelSource(str(prepared / "base-model")), **flags}
    return adapt(files, RunFolder(folder), **flags)


def changed(**values):
    return dataclasses.replace(QUICK, **values)


def lines_of(run):
    return [json.loads(line) for line in run.metrics_file.read_text().splitlines()]


def steps_of(run):
    return [line for line in lines_of(run) if "loss" in line]


def validations_of(run):
    return [line for line in lines_of(run) if "validation" in line]


def weights_of(run):
    found = load_file(run.adapter_file)
    return found | load_file(run.contextualizer_file) if run.contextualizer_file.is_file() else found


def same(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def furthest(first, second):
    assert first.keys() == second.keys()
    return max((first[name].float() - second[name].float()).abs().max().item() for name in first)


@pytest.fixture
def held_out(tmp_path):
    path = tmp_path / "held-out.json"
    path.write_text(json.dumps(HELD_OUT))
    return ClipLists(validation=path)


def seen_clips(monkeypatch):
    """Record the clip ids of every batch that is drawn."""
    seen, real = [], Batches.stream

    def stream(self, *arguments):
        for batch in real(self, *arguments):
            seen.append(batch.layout.clip_ids)
            yield batch

    monkeypatch.setattr(Batches, "stream", stream)
    return seen


def test_excluded_and_held_out_clips_are_never_trained_on(prepared, tmp_path, monkeypatch):
    (tmp_path / "valid.txt").write_text("v_clip0000000_seg_0_10\nv_clip0000001_seg_0_10\nnot_here\n")
    listening, seen = Listening(), seen_clips(monkeypatch)
    lists = ClipLists(exclude=(tmp_path / "valid.txt",))
    summary = run_adapt(prepared, tmp_path / "run", lists=lists, reporter=listening)
    assert {clip for batch in seen for clip in batch} == {f"v_clip000000{n}_seg_0_10" for n in (2, 3, 4, 5)}
    assert "excluded: 2 clips dropped, of 3 on the lists" in listening.said
    assert summary.coverage.excluded == 2 and summary.run.load_config()["clips"]["excluded"] == 2


def test_held_out_clips_are_measured_after_each_epoch_and_the_best_state_is_kept(prepared, tmp_path, held_out):
    summary = run_adapt(prepared, tmp_path / "run", lists=held_out, options=changed(epochs=4))
    found = validations_of(summary.run)
    assert [line["epoch"] for line in found] == [1, 2, 3, 4] and summary.coverage.validation == 2
    names = {"event_recall_at_1", "event_recall_at_5", "event_mrr", "hard_negative_accuracy", "told/verb-role"}
    for line in found:
        values = line["validation"]
        assert names <= values.keys() and {f"vc_{name}" for name in names} <= values.keys()
        assert all(0 <= value <= 1 for value in values.values())
    best = max(found, key=lambda line: line["validation"]["event_mrr"])
    assert summary.best_score == best["validation"]["event_mrr"] and summary.best_step == best["step"]
    assert summary.run.best_file.is_file()


def test_the_best_state_becomes_the_adapter_when_asked_for(prepared, tmp_path, held_out):
    options = changed(epochs=4, select="best", learning_rate=5e-2)
    summary = run_adapt(prepared, tmp_path / "run", lists=held_out, options=options)
    best = load_file(summary.run.best_file)
    assert same(load_file(summary.run.adapter_file), {k[8:]: v for k, v in best.items() if k.startswith("adapter.")})
    last = run_adapt(prepared, tmp_path / "last", lists=held_out, options=changed(epochs=4, learning_rate=5e-2))
    is_last_best = summary.best_step == summary.steps
    assert same(weights_of(last.run), weights_of(summary.run)) == is_last_best
    # Cut short where the best state was reached, the run ends in that state.
    epochs = next(line["epoch"] for line in validations_of(summary.run) if line["step"] == summary.best_step)
    short = run_adapt(prepared, tmp_path / "short", lists=held_out, options=changed(epochs=epochs, learning_rate=5e-2))
    assert same(weights_of(short.run), weights_of(summary.run))


def test_a_run_stops_early_when_nothing_gets_better(prepared, tmp_path, held_out):
    options = changed(epochs=30, early_stop=2, learning_rate=1e-12)
    summary = run_adapt(prepared, tmp_path / "run", lists=held_out, options=options)
    assert [line["epoch"] for line in validations_of(summary.run)] == [1, 2, 3]
    assert summary.steps < 30 and summary.best_step == validations_of(summary.run)[0]["step"]
    again = run_adapt(prepared, tmp_path / "run", lists=held_out, options=options, resume=True)
    assert again.steps == summary.steps, "a run that stopped early has nothing left to do"


def test_an_interrupted_validation_is_done_again(prepared, tmp_path, held_out, monkeypatch):
    options = changed(epochs=3)
    whole = run_adapt(prepared, tmp_path / "whole", lists=held_out, options=options).run
    from figclip_cli.adapt import held_out as held_out_module

    real, calls = held_out_module.score_events, []

    def breaks_once(*arguments):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(held_out_module, "score_events", breaks_once)
    with pytest.raises(KeyboardInterrupt):
        run_adapt(prepared, tmp_path / "run", lists=held_out, options=options)
    run = run_adapt(prepared, tmp_path / "run", lists=held_out, options=options, resume=True).run
    assert lines_of(run) == lines_of(whole) and same(weights_of(run), weights_of(whole))
    assert same(load_file(run.best_file), load_file(whole.best_file))


def test_what_needs_validation_is_refused_without_it(prepared, tmp_path):
    for options in (changed(early_stop=2), changed(select="best")):
        with pytest.raises(UsageError, match="needs held-out clips"):
            run_adapt(prepared, tmp_path / "run", options=options)
    (tmp_path / "other.txt").write_text("nobody\n")
    with pytest.raises(InputError, match="none of the 1 clips of .* has frames and prompts"):
        run_adapt(prepared, tmp_path / "run", lists=ClipLists(validation=tmp_path / "other.txt"))
    assert not (tmp_path / "run").exists()


def test_a_schedule_that_knows_its_end_goes_on_exactly_and_refuses_more_epochs(prepared, tmp_path, monkeypatch):
    options = changed(epochs=4, schedule="cosine", warmup_steps=2, clip_gradient_norm=0.5)
    whole = run_adapt(prepared, tmp_path / "whole", options=options).run
    rates = [line["learning_rate"] for line in steps_of(whole)]
    assert rates[0] == pytest.approx(0.5e-2) and rates[1] == pytest.approx(1e-2) and rates[-1] < 2e-3
    real, calls = step_module.objective, []

    def stops_at_the_sixth(*arguments, **options):
        calls.append(1)
        if len(calls) == 6:
            raise KeyboardInterrupt
        return real(*arguments, **options)

    monkeypatch.setattr(step_module, "objective", stops_at_the_sixth)
    with pytest.raises(KeyboardInterrupt):
        run_adapt(prepared, tmp_path / "run", options=options)
    monkeypatch.undo()
    run = run_adapt(prepared, tmp_path / "run", options=options, resume=True).run
    assert same(weights_of(run), weights_of(whole)) and lines_of(run) == lines_of(whole)
    with pytest.raises(UsageError, match="started with another epochs"):
        run_adapt(prepared, tmp_path / "run", options=dataclasses.replace(options, epochs=5), resume=True)


@pytest.mark.parametrize("values", [{}, {"towers": "both"}, {"anchor": {"feature": 1.0, "geometry": 1.0}}])
def test_parts_of_a_batch_give_the_gradients_of_the_whole(prepared, tmp_path, values):
    options = changed(learning_rate=1e-3, **values)
    whole = run_adapt(prepared, tmp_path / "whole", options=options).run
    parts = run_adapt(prepared, tmp_path / "parts", options=options, execution=Execution(micro_batch_clips=1)).run
    for one, other in zip(steps_of(whole), steps_of(parts), strict=True):
        assert one["loss"] == pytest.approx(other["loss"], abs=1e-5)
        assert one["gradient_norm"] == pytest.approx(other["gradient_norm"], rel=1e-5)
    assert furthest(weights_of(whole), weights_of(parts)) < 1e-5


def test_gradient_checkpointing_changes_nothing(prepared, tmp_path):
    options = changed(lora_dropout=0.2)
    plain = run_adapt(prepared, tmp_path / "plain", options=options).run
    execution = Execution(gradient_checkpointing=True)
    assert same(
        weights_of(run_adapt(prepared, tmp_path / "run", options=options, execution=execution).run), weights_of(plain)
    )


def test_compiling_is_asked_of_the_image_tower(prepared, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self, **_: asked.append(type(self).__name__))
    run_adapt(prepared, tmp_path / "run", options=changed(epochs=1), execution=Execution(compile=True))
    assert asked == ["VisionTransformer"]


def test_a_trained_text_tower_is_saved_and_comes_back(prepared, tmp_path):
    base = load_clip(ModelSource(str(prepared / "base-model")))
    pixels = torch.randint(0, 256, (2, 32, 32, 3), dtype=torch.uint8)
    before = base.encode_frames(pixels).detach(), base.encode_texts(["a dog"])
    run = run_adapt(prepared, tmp_path / "run", options=changed(towers="text")).run
    adapted = attach_run(base, run)
    assert torch.allclose(adapted.encode_frames(pixels), before[0], atol=1e-6)
    assert (adapted.encode_texts(["a dog"]) - before[1]).abs().max() > 1e-4
    again = attach_run(load_base(run), run)
    assert torch.equal(again.encode_texts(["a dog"]), adapted.encode_texts(["a dog"]))


def test_full_fine_tuning_moves_the_tower_and_the_scale_goes_back(prepared, tmp_path):
    run = run_adapt(
        prepared, tmp_path / "run", options=changed(rank=0, learning_rate=1e-3, anchor={"feature": 1.0})
    ).run
    assert "visual.conv1.weight" in load_file(run.adapter_file)
    assert steps_of(run)[0]["anchor_feature"] == pytest.approx(0.0, abs=1e-6)
    assert steps_of(run)[-1]["anchor_feature"] > 1e-5
    pixels = torch.randint(0, 256, (2, 32, 32, 3), dtype=torch.uint8)
    base, tuned, back = load_base(run), attach_run(load_base(run), run), attach_run(load_base(run), run, scale=0.0)
    assert (tuned.encode_frames(pixels) - base.encode_frames(pixels)).abs().max() > 1e-4
    assert torch.allclose(back.encode_frames(pixels), base.encode_frames(pixels), atol=1e-6)
    assert "tuned | all weights of: image" in run.card_file.read_text()


def test_a_learned_temperature_is_clamped_saved_and_comes_back(prepared, tmp_path):
    summary = run_adapt(prepared, tmp_path / "run", options=changed(epochs=3, learn_temperature=True))
    scales = [line["logit_scale"] for line in steps_of(summary.run)]
    base = load_base(summary.run)
    assert abs(scales[-1] - base.logit_scale) > 1e-2
    assert attach_run(base, summary.run).logit_scale == pytest.approx(scales[-1], rel=1e-6)
    far = run_adapt(prepared, tmp_path / "far", options=changed(epochs=6, learn_temperature=True, learning_rate=2.0))
    assert max(line["logit_scale"] for line in steps_of(far.run)) <= 100


def test_an_anchor_keeps_features_nearer_to_the_base(prepared, tmp_path):
    pixels = torch.randint(0, 256, (8, 32, 32, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    reader = FramesReader(prepared / "frames.h5")
    clip_pixels = torch.from_numpy(reader.read(reader.clip_ids[0])).flatten(0, 1)

    def change(name, anchor):
        """Return how far features moved, how far their similarities to one another did, and a trained clip."""
        run = run_adapt(prepared, tmp_path / name, options=changed(epochs=6, anchor=anchor)).run
        models = load_base(run), attach_run(load_base(run), run)
        base, adapted = (torch.nn.functional.normalize(m.encode_frames(pixels).detach(), dim=-1) for m in models)
        clips = [pool_frames(m.encode_frames(clip_pixels).detach()) for m in models]
        similarities = (base @ base.T - adapted @ adapted.T).square().mean()
        return 1 - (base * adapted).sum(-1).mean(), similarities, 1 - clips[0] @ clips[1]

    free = change("free", {})
    assert change("feature", {"feature": 30.0})[0] < 0.5 * free[0]
    assert change("geometry", {"geometry": 1e5})[1] < 0.5 * free[1]
    assert change("video", {"video": 30.0})[2] < 0.5 * free[2]


def test_a_run_that_never_leaves_its_warmup_says_so(prepared, tmp_path):
    said = Listening()
    run_adapt(prepared, tmp_path / "short", options=changed(warmup_steps=4), reporter=said)
    assert any("has 4 steps and never leaves its warm-up of 4" in line for line in said.said)
    said = Listening()
    run_adapt(prepared, tmp_path / "long", options=changed(warmup_steps=3), reporter=said)
    assert not any("warm-up" in line for line in said.said)


def test_a_temperature_that_starts_at_the_cap_is_trained(prepared, tmp_path):
    """OpenAI's models start there: log 100, whose float32 exponential is a little over 100."""
    shutil.copytree(prepared / "base-model", tmp_path / "base-model")
    weights = tmp_path / "base-model" / "open_clip_model.safetensors"
    save_file({**load_file(weights), "logit_scale": torch.tensor(math.log(100))}, weights)
    options = changed(epochs=4, learn_temperature=True)
    source = ModelSource(str(tmp_path / "base-model"))
    run = run_adapt(prepared, tmp_path / "run", options=options, source=source).run
    scales = [line["logit_scale"] for line in steps_of(run)]
    assert min(scales) < 98 and max(scales) <= 100


def test_sources_of_other_shapes_are_mixed_by_weight(prepared, tmp_path, monkeypatch):
    recipe = SamplingRecipe(size=32, events=5, frames_per_event=2)
    extract([prepared / "vidsitu"], tmp_path / "two.h5", recipe=recipe, workers=1)
    files = [
        SourceFiles((prepared / "frames.h5",), prepared / "prompts.jsonl"),
        SourceFiles((tmp_path / "two.h5",), prepared / "prompts.jsonl", weight=0.5),
    ]
    seen = seen_clips(monkeypatch)
    summary = run_adapt(prepared, tmp_path / "run", files, options=changed(epochs=1, batch_clips=4))
    assert sum(map(len, seen)) == 6 + 3 and all(len(set(batch)) == len(batch) for batch in seen)
    assert all(math.isfinite(line["loss"]) for line in steps_of(summary.run))
    config = summary.run.load_config()
    assert [source["weight"] for source in config["sources"]] == [1.0, 0.5]
    assert [source["frames"]["recipe"]["frames_per_event"] for source in config["sources"]] == [4, 2]
    assert load_contextualizer(summary.run).config.max_frames_per_event == 4


def test_a_fraction_trains_on_that_share(prepared, tmp_path, monkeypatch):
    seen = seen_clips(monkeypatch)
    summary = run_adapt(prepared, tmp_path / "run", options=changed(fraction=0.5))
    assert summary.coverage.used == 3 and len({clip for batch in seen for clip in batch}) == 3


def test_tokens_of_all_clips_are_saved_and_are_those_of_the_saved_weights(prepared, tmp_path, held_out):
    execution = Execution(save_tokens=True)
    summary = run_adapt(prepared, tmp_path / "run", lists=held_out, execution=execution)
    tokens = read_tokens(summary.run.tokens_file)
    assert len(tokens.clip_ids) == 6 and tokens.event_mask.all() and set(HELD_OUT) <= set(tokens.clip_ids)
    clip, contextualizer = attach_run(load_base(summary.run), summary.run), load_contextualizer(summary.run)
    pixels = torch.from_numpy(FramesReader(prepared / "frames.h5").read(tokens.clip_ids[0]))
    with torch.no_grad():
        video, events = contextualizer(clip.encode_frames(pixels.flatten(0, 1)).unflatten(0, (1, *pixels.shape[:2])))
    unit = torch.nn.functional.normalize
    assert torch.allclose(torch.from_numpy(tokens.videos[0]), unit(video[0], dim=-1), atol=1e-5)
    assert torch.allclose(torch.from_numpy(tokens.events[0]), unit(events[0], dim=-1), atol=1e-5)


def test_texts_are_encoded_once_and_found_by_later_runs(prepared, tmp_path, monkeypatch):
    for name in ("frames.h5", "prompts.jsonl"):
        shutil.copy(prepared / name, tmp_path / name)
    files = [SourceFiles((tmp_path / "frames.h5",), tmp_path / "prompts.jsonl")]
    from figclip_cli.models import text_features as module

    encoded, real = [], module.encode_in_pieces

    def counting(clip, texts, *arguments, **options):
        encoded.append(len(texts))
        return real(clip, texts, *arguments, **options)

    monkeypatch.setattr(module, "encode_in_pieces", counting)
    run_adapt(prepared, tmp_path / "some", files, options=changed(epochs=1, hard_negatives=False))
    run_adapt(prepared, tmp_path / "all", files, options=changed(epochs=1))
    run_adapt(prepared, tmp_path / "again", files, options=changed(epochs=1))
    distinct = {e["text"] for e in map(json.loads, (tmp_path / "prompts.jsonl").open()) if "text" in e}
    assert encoded[0] == len(distinct) and sum(encoded) == 210 and len([n for n in encoded if n]) == 2


def test_half_precision_with_a_loss_scale_goes_on_exactly(prepared, tmp_path):
    options = changed(precision="fp16", epochs=4)
    whole = run_adapt(prepared, tmp_path / "whole", options=options).run
    run_adapt(prepared, tmp_path / "run", options=dataclasses.replace(options, epochs=2))
    run = run_adapt(prepared, tmp_path / "run", options=options, resume=True).run
    assert same(weights_of(run), weights_of(whole)) and lines_of(run) == lines_of(whole)


def test_the_summary_says_how_fast_it_was(prepared, tmp_path):
    summary = run_adapt(prepared, tmp_path / "run")
    assert summary.images_per_second > 0 and 0 <= summary.idle_share <= 1 and summary.best_score is None


def test_the_card_says_what_was_done(prepared, tmp_path, held_out):
    options = changed(anchor={"geometry": 2.0}, natural_negatives=False, targets=("q", "fc"), blocks="last-1")
    card = run_adapt(prepared, tmp_path / "run", options=options, lists=held_out).run.card_file.read_text()
    assert "| LoRA | rank 2, alpha 2, dropout 0, on q, fc of 2 modules (image, blocks last-1) |" in card
    assert "anchor geometry 2, hard negatives, no same-video negatives" in card
    assert "4 of 6 annotated (66.7 %), 0 excluded, 2 held out" in card


def test_nothing_is_touched_before_the_inputs_are_known_to_fit(prepared, tmp_path):
    run = run_adapt(prepared, tmp_path / "run").run
    before = {path.name: path.read_bytes() for path in run.path.iterdir() if path.is_file()}
    with pytest.raises(InputError, match="no negatives of the kind 'foo'"):
        run_adapt(prepared, tmp_path / "run", options=changed(negative_kinds=("foo",)), overwrite=True)
    with pytest.raises(UsageError, match="contradict each other"):
        run_adapt(prepared, tmp_path / "run", resume=True, overwrite=True)
    with pytest.raises(UsageError, match="is in epoch 2 already"):
        run_adapt(prepared, tmp_path / "run", options=changed(epochs=1), resume=True)
    assert before == {path.name: path.read_bytes() for path in run.path.iterdir() if path.is_file()}


def test_a_folder_that_is_no_run_is_never_replaced(prepared, tmp_path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").write_text("years of work")
    for flags in ({"overwrite": True}, {"resume": True}):
        with pytest.raises(UsageError, match="is not a run of figclip, and is left alone"):
            run_adapt(prepared, tmp_path / "thesis", **flags)
    assert (tmp_path / "thesis" / "chapter.tex").read_text() == "years of work"


def test_a_run_that_goes_astray_keeps_its_last_sound_checkpoint(prepared, tmp_path, monkeypatch):
    real, calls = step_module.objective, []

    def breaks(*arguments, **options):
        calls.append(1)
        terms = real(*arguments, **options)
        return dataclasses.replace(terms, total=terms.total * math.nan) if len(calls) == 4 else terms

    monkeypatch.setattr(step_module, "objective", breaks)
    with pytest.raises(VerificationError, match="loss is nan at step 4, on the clips v_clip") as caught:
        run_adapt(prepared, tmp_path / "run")
    run = RunFolder(tmp_path / "run")
    assert str(run.failure_file) in caught.value.hint
    with safe_open(run.failure_file, "pt") as before, safe_open(run.checkpoint_file, "pt") as sound:
        steps = [json.loads(file.metadata()["figclip"])["progress"]["step"] for file in (sound, before)]
    assert steps == [2, 3], "the epoch's end, and the step before the failing one"


def test_memory_that_runs_out_anywhere_is_explained(prepared, tmp_path, monkeypatch, held_out):
    def full(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(torch.optim.AdamW, "step", full)
    with pytest.raises(MachineError, match="out of memory with 3 clips at once: a step needs at least"):
        run_adapt(prepared, tmp_path / "a")
    monkeypatch.undo()
    from figclip_cli.adapt import held_out as held_out_module

    monkeypatch.setattr(held_out_module, "score_events", full)
    with pytest.raises(MachineError, match="out of memory"):
        run_adapt(prepared, tmp_path / "b", lists=held_out)


def test_the_record_says_which_step_the_weights_are_of(prepared, tmp_path, held_out):
    options = changed(epochs=30, early_stop=2, learning_rate=1e-12)
    run = run_adapt(prepared, tmp_path / "run", lists=held_out, options=options).run
    result = run.load_config()["result"]
    assert result["selected"] == "best" and result["epochs"] == 3 and result["selected_step"] == result["best_step"]
    assert f"best, after step {result['best_step']} of {result['steps']} in 3 epochs" in run.card_file.read_text()
    environment = json.loads(run.environment_file.read_text())
    run_adapt(prepared, tmp_path / "run", lists=held_out, options=options, resume=True)
    again = json.loads(run.environment_file.read_text())
    assert again.pop("resumed")[0]["figclip"] and again == environment


def test_the_last_epoch_is_always_measured(prepared, tmp_path, held_out):
    options = changed(epochs=4, validate_every=3)
    run = run_adapt(prepared, tmp_path / "run", lists=held_out, options=options).run
    assert [line["epoch"] for line in validations_of(run)] == [3, 4]


@pytest.mark.parametrize(
    ("values", "execution", "message"),
    [
        ({"contextualizer": False}, {"save_tokens": True}, "--save-tokens needs the contextualizer"),
        ({"hard_negatives": False, "negative_kinds": ("verb-role",)}, {}, "--negative-kinds says nothing"),
    ],
)
def test_flags_that_mean_nothing_together_are_refused(prepared, tmp_path, values, execution, message):
    with pytest.raises(UsageError, match=message):
        run_adapt(prepared, tmp_path / "run", options=changed(**values), execution=Execution(**execution))


def test_one_clip_without_negatives_is_refused(prepared, tmp_path):
    (tmp_path / "one.txt").write_text("v_clip0000000_seg_0_10\n")
    options = changed(hard_negatives=False, natural_negatives=False)
    with pytest.raises(UsageError, match="one clip without negatives"):
        run_adapt(prepared, tmp_path / "run", options=options, lists=ClipLists(only=(tmp_path / "one.txt",)))
