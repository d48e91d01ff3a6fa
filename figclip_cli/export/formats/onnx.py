"""Two ONNX graphs, ``image.onnx`` and ``text.onnx``, for any batch size."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from figclip_cli.errors import InputError, UsageError
from figclip_cli.export.formats.format import Format, reload_program
from figclip_cli.export.material import Material
from figclip_cli.export.options import ExportOptions
from figclip_cli.export.programs import Program, check_programs, programs, quiet, write_beside

OPSET = 18
# A protobuf message ends at 2 GiB; the graph beside the weights takes some.
LARGEST_FILE_BYTES = 2**31 - 2**26

_USAGE = """import numpy as np, onnxruntime
from tokenizers import Tokenizer

image = onnxruntime.InferenceSession("FOLDER/image.onnx", providers=["CPUExecutionProvider"])
text = onnxruntime.InferenceSession("FOLDER/text.onnx", providers=["CPUExecutionProvider"])
tokenizer = Tokenizer.from_file("FOLDER/tokenizer.json")
ids = np.array([line.ids for line in tokenizer.encode_batch(["a photo of a dog"])])
[image_features] = image.run(None, {"pixels": pixels})  # (batch, 3, S, S) float32, as config.json says
[text_features] = text.run(None, {"ids": ids})"""


def _check(config: Mapping[str, Any], options: ExportOptions) -> None:
    check_programs(config, options)
    if options.dtype == "bf16":
        raise UsageError("--to onnx cannot be had in bf16, which onnxruntime does not compute in", "use --dtype fp16")
    if options.dtype == "fp16" and isinstance(config["model"]["model_cfg"]["vision_cfg"].get("layers"), list):
        raise UsageError("--to onnx in fp16 cannot hold a ResNet: onnxruntime crashes at it", "use --dtype fp32")


def _write(folder: Path, material: Material) -> None:
    for program in programs(material, _without_convolutions):
        _write_graph(folder, program)
    write_beside(folder, material, ".onnx", {"format": "figclip-onnx", "opset": OPSET})


def _without_convolutions(model: nn.Module) -> None:
    """Write patch embeddings of a half type as the matrix products that they are.

    onnxruntime 1.32 crashes on a CPU as it opens a graph that has convolutions beside float16 weights.

    Raises:
        InputError: A convolution is more than a patch embedding.
    """
    for name, module in list(model.named_modules()):
        if not isinstance(module, nn.Conv2d) or module.weight.dtype == torch.float32:
            continue
        if module.stride != module.kernel_size or module.padding not in ((0, 0), "valid") or module.groups != 1:
            said = "--to onnx in fp16 cannot hold an image tower that convolves: onnxruntime crashes at it"
            raise InputError(said, "use --dtype fp32")
        parent, _, child = name.rpartition(".")
        setattr(model.get_submodule(parent), child, _PatchEmbedding(module))


class _PatchEmbedding(nn.Module):
    """A convolution whose windows do not overlap: (B, C, H, W) to (B, D, rows, columns)."""

    def __init__(self, convolution: nn.Conv2d) -> None:
        super().__init__()
        self.weight, self.bias = convolution.weight, convolution.bias
        self.height, self.width = convolution.kernel_size

    def forward(self, pixels: Tensor) -> Tensor:
        rows, columns = pixels.shape[2] // self.height, pixels.shape[3] // self.width
        whole = pixels[:, :, : rows * self.height, : columns * self.width]
        patches = whole.unflatten(3, (columns, self.width)).unflatten(2, (rows, self.height))
        flat = patches.permute(0, 2, 4, 1, 3, 5).flatten(3)
        return F.linear(flat, self.weight.flatten(1), self.bias).permute(0, 3, 1, 2)


def _write_graph(folder: Path, program: Program) -> None:
    import onnx

    graph = _graph(program)
    path = folder / f"{program.name}.onnx"
    if sum(len(tensor.raw_data) for tensor in graph.graph.initializer) > LARGEST_FILE_BYTES:
        location = f"{path.name}.data"
        onnx.save_model(graph, str(path), save_as_external_data=True, location=location, size_threshold=1024)
    else:
        path.write_bytes(graph.SerializeToString(deterministic=True))
    onnx.checker.check_model(str(path), full_check=True)


def _graph(program: Program) -> Any:
    """Return the program as an ONNX model, without what tells of the machine that made it."""
    try:
        with torch.no_grad(), quiet():
            made = torch.onnx.export(
                program.exported,
                (program.example,),
                None,
                dynamo=True,
                opset_version=OPSET,
                input_names=[program.input_name],
                output_names=[program.output_name],
                verbose=False,
                external_data=False,
            )
    except Exception as error:
        said = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        said = f"torch cannot write the {program.name} tower as ONNX: {said}"
        raise InputError(said, "export with --to torch-export") from error
    assert made is not None, "given where no file is named"
    model = made.model_proto
    _strip(model)
    return model


def _strip(model: Any) -> None:
    graph = model.graph
    del model.metadata_props[:], graph.metadata_props[:], graph.value_info[:]
    for part in (model, graph, *graph.node, *graph.initializer, *graph.input, *graph.output):
        part.doc_string = ""
        if hasattr(part, "metadata_props"):
            del part.metadata_props[:]
    named = [*graph.input, *graph.output]
    for value in named:
        value.type.tensor_type.shape.dim[0].dim_param = "batch"


FORMAT = Format(
    name="onnx",
    library="onnxruntime",
    holds="program",
    write=_write,
    usage=lambda material: _USAGE,
    reload=reload_program("with_onnxruntime"),
    packages=("onnx", "onnxscript", "onnxruntime"),
    check=_check,
)
