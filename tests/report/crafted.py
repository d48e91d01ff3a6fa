"""Runs, results, curves and predictions made by hand, without training, whose texts may be anything."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import msgspec
import numpy as np
from PIL import Image
from safetensors.numpy import save_file

from figclip_cli.adapt.options import AdaptOptions
from figclip_cli.adapt.run_config import run_config
from figclip_cli.adapt.sources import Coverage
from figclip_cli.evaluate.curve import make_curve, write_curve
from figclip_cli.evaluate.evaluation import Evaluation
from figclip_cli.evaluate.results import Metric, Results
from figclip_cli.evaluate.samples import Outcome, Sample
from figclip_cli.files import sha256_of_file
from figclip_cli.frames import SamplingRecipe, store
from figclip_cli.frames.clip import ClipResult
from figclip_cli.run_folder import RunFolder

BASE_SHA256 = "b" * 64
HOSTILE = (
    "<script>window.owned=1</script>",
    '"><img src=x onerror="window.owned=1">',
    "</title></style></svg><script>window.owned=1</script>",
    "]]> &amp; & <!--",
    "\u202eright to left",
    "\x07\x1b[31m\x9f",
    "w" * 10_000,
    "\U0001f98a fox",
    r"$\frac{1}{0}$ _x",
    "' onfocus='window.owned=1' autofocus='",
)
ALL = " ".join(HOSTILE)
MODULES = ("visual.transformer.resblocks.0.attn", "visual.transformer.resblocks.1.attn")


def craft_run(folder, name="one", *, seed=0, options=None, modules=MODULES, epochs=1, terms=(), **changes):
    """Write a finished run: the configuration by figclip's own code, random matrices, three steps an epoch.

    With ``terms`` the log has them, and a validation after each epoch.
    """
    run = RunFolder(folder / "runs" / name)
    run.path.mkdir(parents=True)
    options = options or AdaptOptions(rank=2, epochs=epochs, seed=seed)
    config = {**_config(options, modules), **changes}
    result = {"epochs": epochs, "steps": 3 * epochs, "selected": "last", "selected_step": 3 * epochs,
              "best_by": None, "best_score": None, "best_step": None}  # fmt: skip
    run.config_file.write_text(json.dumps({**config, "result": result}))
    draw = np.random.default_rng(seed)
    tensors = {}
    for module in modules:
        for part in "qkv":
            tensors[f"{module}.{part}.lora_A"] = draw.normal(size=(2, 8)).astype(np.float32)
            tensors[f"{module}.{part}.lora_B"] = draw.normal(size=(8, 2)).astype(np.float32)
    save_file(tensors, run.adapter_file, metadata={"figclip": "{}"})
    run.metrics_file.write_text("".join(json.dumps(line) + "\n" for line in _log(epochs, terms)))
    command = ["figclip", "adapt", "--name", name]
    environment = {"figclip": "0.1.0", "python": "3.11", "packages": {"torch": "2.6"}, "command": command}
    run.environment_file.write_text(json.dumps(environment))
    run.done_file.touch()
    return run


def _config(options, modules):
    clip = SimpleNamespace(
        name="tiny base",
        source=SimpleNamespace(
            model="ViT-B-32-quickgelu",
            pretrained="openai",
            as_dict=lambda: {"model": "ViT-B-32-quickgelu", "pretrained": "openai", "activation": None},
        ),
        sha256=BASE_SHA256,
        model_config={"quick_gelu": True, "embed_dim": 8, "vision_cfg": {}, "text_cfg": {}},
        preprocess=SimpleNamespace(as_dict=lambda: {"size": [32, 32]}),
    )
    about = {
        "frames": {"content_sha256": "f" * 64, "recipe": {"events": 5, "size": 32}},
        "prompts": {"sha256": "c" * 64, "options": {"template": "paper"}},
        "weight": 1.0,
        "clips": 6,
    }
    source = SimpleNamespace(describe=lambda: about, clip_ids=("v_a",))
    made = [SimpleNamespace(name=module, kind="MultiheadAttention", parameters=96) for module in modules]
    coverage = Coverage(**{**dict.fromkeys(Coverage.__dataclass_fields__, 0), "prompts": 8, "used": 6, "validation": 1})
    return run_config(clip, [source], coverage, made, options, {"micro_batch_clips": None})


def _log(epochs, terms):
    for step in range(1, 3 * epochs + 1):
        loss = 4.0 / step
        yield {"step": step, "epoch": 1 + (step - 1) // 3, "loss": loss, **dict.fromkeys(terms, loss / 2),
               "gradient_norm": 1.0, "learning_rate": 1e-3, "logit_scale": 20.0, "clips": 2}  # fmt: skip
        if terms and step % 3 == 0:
            told = {"event_mrr": 1 - 1 / (1 + step), "hard_negative_accuracy": 0.5, "told/verb-role": 0.75}
            yield {"step": step, "epoch": step // 3, "validation": told}


def metric(name, base, value, *, error=2.0, n=20, p_value=0.01, higher=True):
    """A number of base and run."""
    return Metric(
        name, value, error, higher, base, error, value - base, error, n, p_value, "sign flips", statistic="mean"
    )


def results_of(run, task, dataset_id, metrics, *, protocol=None, scale=1.0, base_sha256=BASE_SHA256, counts=None):
    """Results of a run, of one clip and one text more than were evaluated."""
    counts = counts or {"clips": 2, "texts": 20}
    return Results(
        task=task,
        dataset_id=dataset_id,
        dataset_sha256="d" * 64,
        asked=counts,
        evaluated=counts,
        missing={},
        protocol={"name": "figclip", "changed": [], **(protocol or {})},
        models={
            "base": {"name": "tiny base", "sha256": base_sha256, "pretrained": "openai"},
            "adapted": {"name": run.name, "adapter_sha256": sha256_of_file(run.adapter_file), "scale": scale},
        },
        metrics=tuple(metrics),
        seeds={"bootstrap": 0},
    )


def retrieval_of(run, dataset_id="test.jsonl", *, gain=10.0, frames=None, scale=1.0, level="event"):
    """Retrieval results, by events of a frames file."""
    protocol = {"level": level, "ties": "average", "video_to_text_multi_caption": "max-per-video",
                "candidates": {"t2v": 10, "v2t": 10}, "frames_content_sha256": frames or "f" * 64}  # fmt: skip
    metrics = [metric("t2v R@1", 20.0, 20.0 + gain * scale), metric("t2v MdR", 3.0, 2.0, higher=False, p_value=0.4)]
    return results_of(run, "zero-shot retrieval", dataset_id, metrics, protocol=protocol, scale=scale)


def sample(number, text, look, *, base, run, part="t2v", chosen=None, group=""):
    """An item that base and run have right (None) or wrong with a rank."""

    def outcome(rank):
        return Outcome(
            right=rank is None,
            margin=0.5 if rank is None else -0.1 * rank,
            rank=float(rank or 0) if part == "t2v" else None,
            chosen=look if rank is None else (chosen or look),
        )

    outcomes = {"base": outcome(base), "adapted": outcome(run)}
    return Sample(id=f"{look}/{number}", part=part, group=group, look=look, text=text, outcomes=outcomes)


def retrieval_samples(looks, texts):
    """Queries of each kind: won, lost, and wrong with both; the wrong clip is the next one."""
    kinds = ((4, None), (None, 2), (3, 3), (None, None))
    return [
        sample(number, text, looks[number % len(looks)], base=kinds[number % 4][0], run=kinds[number % 4][1],
               chosen=looks[(number + 1) % len(looks)])
        for number, text in enumerate(texts)
    ]  # fmt: skip


def write_retrieval(folder, run, texts, looks, *, name="retrieval", frames=None, gain=10.0, dataset_id="test.jsonl"):
    """Write retrieval results and their samples."""
    results = retrieval_of(run, dataset_id, frames=frames, gain=gain)
    results.write(folder / "results" / f"{name}.json", retrieval_samples(looks, texts))
    return folder / "results" / f"{name}.json"


def write_compositional(folder, run, kinds, texts, looks, *, name="compositional", frames=None):
    """Write results by kind, and items whose wrong text is another one's."""
    protocol = {"benchmark": "prompts", "tie_rule": "official", "frames_content_sha256": frames or "f" * 64}
    metrics = [metric(kind, 50.0 + 2 * n, 55.0 - n) for n, kind in enumerate(kinds)]
    results = results_of(run, "compositional", "test.jsonl", metrics, protocol=protocol)
    made = []
    for n, text in enumerate(texts):
        look, base, own = looks[n % len(looks)], (1 if n % 2 else None), (None if n % 3 else 1)
        kind = kinds[n % len(kinds)]
        one = sample(n, text, look, base=base, run=own, part=kind, chosen=texts[n - 1], group="push.01")
        made.append(msgspec.structs.replace(one, id=f"{look}/0/{n % 5}/{n}"))
    results.write(folder / "results" / f"{name}.json", made)
    return folder / "results" / f"{name}.json"


def write_scales(folder, run, task="zero-shot retrieval", *, name="curve", gain=10.0, dataset_id="test.jsonl"):
    """Write a curve and the results of each scale beside it."""
    scales = (0.0, 0.5, 1.0)
    path = folder / "results" / name / "curve.json"
    evaluations = []
    for scale in scales:
        one = retrieval_of(run, dataset_id, gain=gain, scale=scale)
        evaluations.append(Evaluation(replace(one, task=task), lambda: iter(())))
    made = make_curve(evaluations, scales, path, run_name=run.name, samples=False)
    write_curve(path, {**made.as_document(), "trade_off": None}, "<svg/>")
    return path


def write_frames(folder, clip_ids, size=32, storage="jpeg"):
    """Write a frames file of 5 events x 4 plain pictures a clip; return it and the hash of its content."""
    recipe = SamplingRecipe(size=size, storage=storage)
    pictures = [
        [picture(size, 20 * number + place, storage) for place in range(20)] for number, _ in enumerate(clip_ids)
    ]
    times = tuple(0.25 + place / 2 for place in range(20))
    clips = [ClipResult(one, f"{one}.mp4", "ok", "", 0.0, 10.0, times, ()) for one in clip_ids]
    path = folder / "frames.h5"
    return path, store.write_frames(path, recipe, clips, [[*map(len, of)] for of in pictures], pictures.__getitem__)


def picture(size, number, storage):
    """One picture of one colour, as it is stored."""
    image = Image.new("RGB", (size, size), (13 * number % 256, 40, 255 - 13 * number % 256))
    if storage == "raw":
        return image.tobytes()
    written = io.BytesIO()
    image.save(written, "JPEG")
    return written.getvalue()


def write_predictions(folder, name, run, verbs, *, base_sha256=BASE_SHA256, frames="f" * 64, task="situation"):
    """Write a folder as ``figclip predict situation`` does: verbs alone, by clip."""
    place = folder / name
    place.mkdir(parents=True)
    rows = [{"ann_idx": n, "pred_vbs_ev": of_clip, "pred_scores_ev": [[1.0] * len(e) for e in of_clip]}
            for n, of_clip in enumerate(verbs)]  # fmt: skip
    (place / "verbs.json").write_text(json.dumps(rows))
    about = {
        "format": "figclip-predictions",
        "format_version": 1,
        "task": task,
        "head": {"name": f"head of {name}", "weights_sha256": "e" * 64},
        "model": {
            "name": "tiny base" if run is None else run.name,
            "sha256": base_sha256,
            "adapter_sha256": None if run is None else sha256_of_file(run.adapter_file),
        },
        "frames_sha256": frames,
        "files": {"verbs.json": sha256_of_file(place / "verbs.json")},
    }
    (place / "predictions.json").write_text(json.dumps(about))
    return place


def write_truth(folder: Path, clip_ids, verbs):
    """Write VidSitu's split and votes, ten annotators that agree, and return the three paths."""
    split, vinfo = folder / "split.json", folder / "vinfo.json"
    split.write_text(json.dumps(list(clip_ids)))
    rows = [
        {"vid_seg_int": clip_id, "vbid_lst": {f"Ev{n + 1}": [verb] * 10 for n, verb in enumerate(of_clip)}}
        for clip_id, of_clip in zip(clip_ids, verbs, strict=True)
    ]
    vinfo.write_text(json.dumps(rows))
    return split, vinfo
