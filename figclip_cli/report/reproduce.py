"""Commands that make a run or results again, out of what these record; nothing that was not recorded is guessed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import msgspec

from figclip_cli.adapt.options import AdaptOptions
from figclip_cli.errors import FigclipError
from figclip_cli.evaluate.results import Results
from figclip_cli.option_fields import spelled
from figclip_cli.report.comparisons import COMPOSITIONAL, RETRIEVAL
from figclip_cli.report.runs import ReportRun

_IN_LORA = {"rank": "rank", "alpha": "alpha", "dropout": "lora_dropout"} | {
    name: name for name in ("targets", "blocks", "towers")
}
# Of how a run is computed, what decides whether it fits into memory.
_EXECUTION = ("micro_batch_clips", "gradient_checkpointing", "compile")
_ORDER = "order"  # the seed of shuffled captions
_PROTOCOL_FLAGS = ("pooling", "num_frames", "crop", "precision", "max_tokens")


def options_of(config: Mapping[str, Any]) -> AdaptOptions | None:
    """Return the options that a configuration was resolved from, None where they are not this version's."""
    values = {item.name: config[item.name] for item in fields(AdaptOptions) if item.name in config}
    values |= {_IN_LORA[name]: value for name, value in config["lora"].items() if name in _IN_LORA}
    if values.get("alpha") == values.get("rank"):
        values["alpha"] = None  # the default; of rank 0 no other is taken
    lists = {name: tuple(value) for name, value in values.items() if isinstance(value, list)}
    try:
        return AdaptOptions(**{**values, **lists})
    except (FigclipError, TypeError, ValueError, AttributeError, OverflowError):
        return None


def adapt_command(run: ReportRun) -> list[str] | None:
    """Return a command with the options and the base model of a run, None where they cannot be told.

    Files are not recorded, only what was in them: their places are named in capital letters, which a person fills in.
    What else it lacks is said by :func:`missing_from_adapt`.
    """
    options = options_of(run.config)
    try:
        return None if options is None else _adapt_words(run, options)
    except (
        TypeError,
        ValueError,
        AttributeError,
        OverflowError,
    ):  # a value that the configuration's schema leaves open
        return None


def missing_from_adapt(run: ReportRun) -> list[str]:
    """Return, a sentence each, what :func:`adapt_command` may lack because it was not recorded."""
    left_out = run.config["clips"].get("left_out")
    if left_out is None:
        return ["Whether --clips chose the clips was not recorded; the hash of the clips that were used was."]
    options = options_of(run.config)
    if left_out and options is not None and options.fraction != 1.0:
        return [f"Of the {left_out:,} clips that were left out, a list given with --clips may have left out some."]
    return []


def _adapt_words(run: ReportRun, options: AdaptOptions) -> list[str]:
    config = run.config
    words = ["figclip", "adapt"]
    for number, _ in enumerate(config["sources"], start=1):
        words += ["--frames", f"FRAMES-{number}.h5", "--prompts", f"PROMPTS-{number}.jsonl"]
    weights = [source.get("weight", 1.0) for source in config["sources"]]
    if any(weight != 1.0 for weight in weights):
        words += ["--mix", ",".join(map(_number, weights))]
    words += [f"--{name}={value}" for name, value in config["model"]["source"].items() if value is not None]
    if config["clips"].get("left_out") and options.fraction == 1.0:
        words += ["--clips", "CLIPS.txt"]
    if config["clips"]["validation"]:
        words += ["--validation", "HELD-OUT.txt"]
    if config["clips"]["excluded"]:
        words += ["--exclude", "EXCLUDED.txt"]
    words += _flags(options)
    execution = config.get("execution")
    if isinstance(execution, dict):
        for name in _EXECUTION:
            value = execution.get(name)
            if value is True or (isinstance(value, int) and value):
                words += [spelled(name)] + ([] if value is True else [str(value)])
    return [*words, f"--name={run.folder.name}"]


def _flags(options: AdaptOptions) -> list[str]:
    """Return a flag for each option that is not the default."""
    words = []
    for item in fields(AdaptOptions):
        value, flag = getattr(options, item.name), spelled(item.name)
        default = getattr(AdaptOptions(), item.name)
        if value == default:
            continue
        if isinstance(value, bool):
            words.append(flag if value else flag.replace("--", "--no-", 1))
        elif isinstance(value, Mapping):
            words.append(f"{flag}={','.join(f'{kind}={_number(weight)}' for kind, weight in value.items())}")
        elif isinstance(value, tuple):
            words.append(f"{flag}={','.join(value)}")
        else:
            words.append(f"{flag}={_number(value) if isinstance(value, float) else value}")
    return words


def _number(value: float) -> str:
    """Return the shortest text that reads as the same number."""
    return repr(float(value)).removesuffix(".0")


class _Ids(msgspec.Struct):
    file: str


class _Captions(msgspec.Struct):
    """Which captions of a file are queries."""

    split: str | None = None
    ids: _Ids | None = None
    caption_choice: str = "all"


class _Protocol(msgspec.Struct):
    """What the flags of an evaluation are told from."""

    name: str
    changed: list[str]
    ties: Any = None
    tie_rule: str | None = None
    level: str | None = None
    captions_format: str | None = None
    captions: _Captions | None = None
    video_to_text_multi_caption: str | None = None
    benchmark: str | None = None
    contextualizer: Any = False


def evaluate_command(run: ReportRun, results: Results) -> list[str] | None:
    """Return a command that scores retrieval or a compositional benchmark alike, None for other tasks.

    As in :func:`adapt_command`, files whose places are not recorded are named in capital letters.
    What else it lacks is said by :func:`missing_from_evaluate`.
    """
    protocol = _protocol_of(results)
    if protocol is None:
        return None
    if results.task == RETRIEVAL:
        words = ["retrieval", "--captions", f"FOLDER/{results.dataset_id}", *_of_captions(protocol)]
        words += ["--level", protocol.level] if protocol.level == "event" else []
        words += ["--ties", protocol.ties] if protocol.ties not in (None, "average") else []
        multi = protocol.video_to_text_multi_caption
        words += ["--multi-caption", multi] if multi not in (None, "max-per-video") else []
    elif results.task == COMPOSITIONAL and protocol.benchmark is not None:
        words = ["compositional", "--benchmark", protocol.benchmark, "--annotations", "ANNOTATIONS"]
        words += ["--ties", protocol.tie_rule] if protocol.tie_rule not in (None, "official") else []
        words += ["--order-seed", str(results.seeds[_ORDER])] if results.seeds.get(_ORDER) else []
    else:
        return None
    words += ["--features", "tokens"] if protocol.contextualizer else []
    words += ["--frames", "FRAMES.h5"] if "frames_content_sha256" in results.protocol else ["--images", "FOLDER"]
    words += ["--protocol", protocol.name] if protocol.name != "figclip" else []
    for name in _PROTOCOL_FLAGS:
        if name in protocol.changed and results.protocol.get(name) is not None:
            words += [spelled(name), str(results.protocol[name])]
    return ["figclip", "evaluate", *words, "--run", str(run.folder.path)]


def missing_from_evaluate(results: Results) -> list[str]:
    """Return, a sentence each, what :func:`evaluate_command` may lack because it was not recorded."""
    protocol = _protocol_of(results)
    if protocol is None:
        return []
    found = []
    if results.task == RETRIEVAL and protocol.captions is None:
        found.append("Which split, clips and captions of the file were queries was not recorded.")
    if results.task == RETRIEVAL and protocol.captions_format is None:
        found.append("As which format the captions were read was not recorded.")
    if results.task == COMPOSITIONAL and (protocol.benchmark or "").endswith(_ORDER) and _ORDER not in results.seeds:
        found.append("The seed of the shuffled captions was not recorded.")
    return found


def _protocol_of(results: Results) -> _Protocol | None:
    try:
        return msgspec.convert(dict(results.protocol), _Protocol)
    except msgspec.ValidationError:
        return None


def _of_captions(protocol: _Protocol) -> list[str]:
    """Return the flags that say which captions of a file were queries, and as what it was read."""
    words = ["--captions-format", protocol.captions_format] if protocol.captions_format is not None else []
    chosen = protocol.captions or _Captions()
    words += ["--split", chosen.split] if chosen.split is not None else []
    words += ["--ids", f"FOLDER/{chosen.ids.file}"] if chosen.ids is not None else []
    return words + (["--caption-choice", chosen.caption_choice] if chosen.caption_choice != "all" else [])
