"""The model card of an export, as Markdown: the same bytes for the same run and options."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from figclip_cli.adapt.card import facts
from figclip_cli.evaluate.results import Results
from figclip_cli.export.formats import Format
from figclip_cli.export.licences import licence_of_base
from figclip_cli.export.material import Material
from figclip_cli.export.options import Target, spelled
from figclip_cli.export.verify import Comparison
from figclip_cli.markdown import fenced, inline, one_line

_CARD = """# {name}

CLIP adapted on densely annotated video clips with figclip, a re-implementation of FiGCLIP (arXiv 2401.07669), for
{library}. {what}

{usage}

`FOLDER` is this folder.

## What it is

{facts}
Licence of the base model: {licence}.

## Results

{results}

## How it was made

{commands}

The export was opened by {library} in a fresh process and compared with the unmerged model on {images} pictures
({images_from}) and {texts} texts ({texts_from}): features at unit length, logits as they are.

{comparison}

`SHA256SUMS` has the hashes of all files: `sha256sum --check SHA256SUMS`.

## Limits

The towers were adapted on short clips with English annotations. What the base model does wrong, this one may do
wrong too. The image tower is for retrieval, action recognition and compositional tests; the contextualizer is for
tasks that read event tokens.
"""
_NO_RESULTS = "None were given for these weights; `figclip export --results FILE` adds them."
_WHAT = {
    "weights": "The adapter is merged into the weights{scale}.",
    "program": "The adapter is merged into the weights{scale}; no code of figclip is needed.",
    "adapter": "The folder holds the adapter alone{scale}; it needs the base model's weights.",
    "contextualizer": "The folder holds the video contextualizer, which takes features of the adapted image tower.",
}


def export_card(
    material: Material,
    target: Target,
    made: Format,
    comparison: Comparison,
    samples: Mapping[str, Any],
    results: Sequence[Results],
) -> str:
    """Return the card.

    Args:
        samples: What the export was compared on; see ``Samples.describe``.
        results: Of this run at this scale.
    """
    config = material.config
    scale = (
        ""
        if target.scale == 1
        else f", {spelled(target.scale)} of the way from the base (0) to the adapted weights (1)"
    )
    return _CARD.format(
        name=inline(f"{material.run.name}, {target.name}"),
        library=made.library,
        what=_WHAT[made.holds].format(scale=scale),
        usage=fenced(made.usage(material), "python"),
        facts=facts(config, config["result"]),
        licence=inline(licence_of_base(material.clip.source.as_dict(), material.options.licence)),
        results="\n".join(map(_results, results)) or _NO_RESULTS,
        commands=fenced("\n".join(map(one_line, _commands(material, target)))),
        comparison=_comparison(comparison),
        **samples,
    )


def _results(results: Results) -> str:
    precision = results.protocol.get("precision")
    computed = f", computed in {inline(str(precision))}" if precision else ""
    lines = [
        f"{inline(f'{results.task}, {results.dataset_id}')} ({results.describe_counts()}){computed}:\n",
        "| metric | base | adapted | difference |",
        "| --- | ---: | ---: | ---: |",
    ]
    for metric in results.metrics:
        base = "" if metric.base_value is None else f"{metric.base_value:.2f}"
        error = "" if metric.delta_standard_error is None else f" ± {metric.delta_standard_error:.2f}"
        delta = "" if metric.delta is None else f"{metric.delta:+.2f}{error}"
        lines.append(f"| {inline(metric.name)} {metric.arrow} | {base} | {metric.value:.2f} | {delta} |")
    return "\n".join(lines) + "\n"


def _commands(material: Material, target: Target) -> list[str]:
    """Return the commands that made the run and this folder; all of the latter but where the folder is."""
    options, source = material.options, material.clip.source
    made = ["figclip", "export", str(material.run.path), "--to", target.format]
    made += [] if target.scale == 1 else ["--scale", spelled(target.scale)]
    made += [] if target.dtype == "fp32" else ["--dtype", target.dtype]
    if source.as_dict() != material.config["model"]["source"]:
        made += ["--model", source.model]
        made += ["--pretrained", source.pretrained] if source.pretrained else []
        made += ["--activation", source.activation] if source.activation else []
    made += ["--base-name", options.base_name] if options.base_name else []
    made += [word for path in options.frames for word in ("--frames", str(path))]
    made += ["--prompts", str(options.prompts)] if options.prompts else []
    made += [word for path in options.results for word in ("--results", str(path))]
    made += ["--license", options.licence] if options.licence else []
    return [shlex.join(material.command or ["figclip", "adapt"]), shlex.join(made)]


def _comparison(comparison: Comparison) -> str:
    cast, exact = comparison.cast_alone, comparison.from_cast
    columns = ["output", "largest difference", "allowed"]
    columns += ["the same cast of the base"] if cast else []
    columns += ["from the merged model cast alike"] if exact else []
    lines = [f"| {' | '.join(columns)} |", f"| --- |{' ---: |' * (len(columns) - 1)}"]
    for kind, difference in comparison.differences.items():
        cells = [kind, f"{difference:.1e}", f"{comparison.bounds[kind]:.1e}"]
        cells += [f"{cast[kind]:.1e}"] if cast else []
        cells += [f"{exact[kind]:.1e}"] if exact else []
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)
