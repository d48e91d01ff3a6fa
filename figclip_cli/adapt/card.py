"""The model card of a run, as Markdown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_CARD = """# {name}

CLIP adapted on densely annotated video clips with figclip, a re-implementation of FiGCLIP (arXiv 2401.07669).
Use the image tower alone for retrieval, action recognition and compositional tests; the contextualizer is for
tasks that read event tokens.

| | |
| --- | --- |
| base model | {base} |
| base weights (SHA-256) | `{base_sha256}` |
| activation | {activation} |
| input | {size} x {size} pixels |
| clips used | {used} of {annotated} annotated ({share:.1f} %) |
| subset (SHA-256 of the clip ids) | `{subset}` |
| LoRA | rank {rank}, alpha {alpha:g}, dropout {dropout:g}, on {targets} of {blocks} blocks |
| contextualizer | {contextualizer} |
| training | {epochs} epochs, {batch_clips} clips a step, AdamW, learning rate {learning_rate:g}, seed {seed} |

## Adapted modules

| module | kind | trainable parameters |
| --- | --- | ---: |
{modules}

The weights stay under the licence of the base model. `figclip evaluate retrieval --run` compares this model
with its base; `figclip export` merges it into ordinary open_clip weights.
"""


def model_card(name: str, config: Mapping[str, Any]) -> str:
    """Return the card of a run from its resolved configuration."""
    lora, model, clips = config["lora"], config["model"], config["clips"]
    source = model["source"]
    rows = "\n".join(f"| `{m['name']}` | {m['kind']} | {m['parameters']:,} |" for m in lora["modules"])
    return _CARD.format(
        name=name,
        base=model["name"] + (f" ({source['pretrained']})" if source["pretrained"] else ""),
        base_sha256=model["sha256"],
        activation="QuickGELU" if model["model_cfg"]["quick_gelu"] else "GELU",
        size=model["preprocess_cfg"]["size"][0],
        used=clips["used"],
        annotated=clips["annotated"],
        share=100 * clips["used"] / clips["annotated"],
        subset=clips["sha256"],
        rank=lora["rank"],
        alpha=lora["alpha"],
        dropout=lora["dropout"],
        targets=", ".join(lora["targets"]),
        blocks=len(lora["modules"]),
        contextualizer=f"{config['contextualizer_layers']} layers" if config["contextualizer"] else "none",
        epochs=config["epochs"],
        batch_clips=config["batch_clips"],
        learning_rate=config["learning_rate"],
        seed=config["seed"],
        modules=rows,
    )
