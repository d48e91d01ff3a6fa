"""What formats are written from: one model at one scale, merged in float32, and what it was merged from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from figclip_cli.errors import VerificationError
from figclip_cli.export.options import ExportOptions
from figclip_cli.files import read_json
from figclip_cli.models.adapted import attach_run
from figclip_cli.models.clip import Clip
from figclip_cli.models.contextualizer import VideoContextualizer
from figclip_cli.models.lora import adapter_state, merge_lora
from figclip_cli.models.lora.state import TEMPERATURE, mark_tuned
from figclip_cli.run_folder import RunFolder

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def is_cast(name: str, tensor: Tensor) -> bool:
    """Return whether a tensor is written in the type that was asked for."""
    return tensor.is_floating_point() and name not in (TEMPERATURE, "logit_bias")


@dataclass(frozen=True)
class Material:
    """One model to be written.

    Attributes:
        run: The run.
        config: Its resolved configuration.
        options: What was asked for.
        scale: How far this model goes from the base (0) to the adapted weights (1).
        clip: The merged model: ordinary modules, float32, on the CPU.
        state: Its tensors by open_clip's names. They are the model's own memory.
        base_state: The base's, under the same names.
        adapter: What was learned, by loralib names as in ``adapter.safetensors``, at this scale: A (r, D_in) and B
            (D_out, r), the latter multiplied by the scale. Whole tensors for a run of rank 0.
        contextualizer: The run's, or None.
    """

    run: RunFolder
    config: Mapping[str, Any]
    options: ExportOptions
    scale: float
    clip: Clip
    state: Mapping[str, Tensor]
    base_state: Mapping[str, Tensor]
    adapter: Mapping[str, Tensor]
    contextualizer: VideoContextualizer | None

    @staticmethod
    def dtype_of(options: ExportOptions) -> torch.dtype:
        """Return the type of the tensors that options ask for."""
        return _DTYPES[options.dtype]

    @property
    def dtype(self) -> torch.dtype:
        """Type of the tensors that are written."""
        return self.dtype_of(self.options)

    @property
    def lora(self) -> Mapping[str, Any]:
        """Rank, alpha, targets, blocks, towers and modules."""
        lora: Mapping[str, Any] = self.config["lora"]
        return lora

    @property
    def command(self) -> list[str]:
        """The command that made the run; empty where it was made otherwise."""
        if not self.run.environment_file.is_file():
            return []
        environment = read_json(self.run.environment_file, "environment of the run")
        command = environment.get("command") if isinstance(environment, dict) else None
        return list(map(str, command)) if isinstance(command, list) else []

    @property
    def logit_scale(self) -> float:
        """Inverse temperature, already exponentiated."""
        return self.clip.logit_scale

    def cast(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return copies in name order, floating-point ones in :attr:`dtype`, each with memory of its own.

        The temperature stays float32: it is one number, and rounding its logarithm would move every logit.

        Raises:
            VerificationError: A value does not fit the type: float16 ends at 65,504.
        """
        cast = {}
        for name in sorted(tensors):
            tensor = tensors[name].detach().cpu()
            cast[name] = tensor.to(self.dtype if is_cast(name, tensor) else tensor.dtype, copy=True).contiguous()
            if not bool(torch.isfinite(cast[name]).all()):
                raise VerificationError(f"{name} does not fit {self.options.dtype}", "export with --dtype bf16 or fp32")
        return cast

    @property
    def changed(self) -> tuple[str, ...]:
        """Names of the tensors that differ from the base's."""
        return tuple(name for name in sorted(self.state) if not torch.equal(self.state[name], self.base_state[name]))


def merged(
    run: RunFolder,
    options: ExportOptions,
    scale: float,
    adapted: Clip,
    base_state: Mapping[str, Tensor],
    contextualizer: VideoContextualizer | None,
) -> Material:
    """Merge the adapter that is attached to a model, in place and in float32.

    Args:
        adapted: The model with the adapter attached at this scale.
        base_state: Copies of its tensors from before it was.

    Raises:
        VerificationError: A tensor was lost or gained, which would break every reader.
    """
    adapter = adapter_state(adapted.model)
    merge_lora(adapted.model)
    state = adapted.model.state_dict()
    differing = sorted(set(base_state) ^ set(state))
    if differing:
        raise VerificationError(f"merging lost or gained the tensor {differing[0]}", "please report this")
    if TEMPERATURE in state and not torch.equal(state[TEMPERATURE], base_state[TEMPERATURE]):
        adapter[TEMPERATURE] = state[TEMPERATURE].clone()  # a frozen one of a loaded run is not in the adapter's state
    return Material(run, run.load_config(), options, scale, adapted, state, base_state, adapter, contextualizer)


def attach(base: Clip, base_state: Mapping[str, Tensor], run: RunFolder, scale: float) -> Clip:
    """Return the run attached to the base, whatever the module has been made into before."""
    merge_lora(base.model)
    mark_tuned(base.model, ())
    base.model.load_state_dict(base_state)
    return attach_run(base, run, scale=scale)
