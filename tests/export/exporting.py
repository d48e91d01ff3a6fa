"""Exports whose programs run in the test's own process, which saves starting one for each.

Fixtures: a test module takes those it needs by name from here.
"""

from __future__ import annotations

import importlib.util
import json

import pytest
import torch
from safetensors.torch import load_file, save_file


def outputs_here(made, folder, samples, *, frames=None, base=None):
    """Run a format's reload program in this process."""
    scratch = folder.parent / f"scratch-{folder.name}"
    scratch.mkdir()
    inputs, texts, out = scratch / "in.safetensors", scratch / "texts.json", scratch / "out.safetensors"
    tensors = {"images": samples.images.contiguous()}
    save_file(tensors if frames is None else {**tensors, "frames": frames.contiguous()}, inputs)
    texts.write_text(json.dumps(list(samples.texts)), encoding="utf-8")
    spec = importlib.util.spec_from_file_location(made.reload.stem, made.reload)
    program = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(program)
    try:
        program.main(str(folder), str(inputs), str(texts), str(out), str(base or ""))
        return {name: tensor.clone() for name, tensor in load_file(out).items()}
    finally:
        for file in (inputs, texts, out):
            file.unlink(missing_ok=True)
        scratch.rmdir()


@pytest.fixture
def here(monkeypatch):
    """Let exports be re-loaded in this process."""
    from figclip_cli.export import session as session_module

    monkeypatch.setattr(session_module, "reloaded", outputs_here)


@pytest.fixture
def one_export():
    """Write one export: ``one_export(run, folder, to="open-clip", scale=0.5)`` gives its summary."""
    from figclip_cli.export import ExportOptions, export, planned_folders

    def write(
        run,
        folder,
        *,
        to="open-clip",
        scale=1.0,
        dtype="fp32",
        results=(),
        licence=None,
        frames=(),
        prompts=None,
        **others,
    ):
        options = ExportOptions((to,), (scale,), dtype, None, licence, tuple(results), tuple(frames), prompts)
        (summary,) = export(run, planned_folders(run, options, folder), options, **others)
        return summary

    return write


@pytest.fixture(scope="session")
def exported_here(finished_run, tmp_path_factory):
    """An open_clip export of the finished run that was re-loaded in this process."""
    from figclip_cli.export import ExportOptions, export, planned_folders
    from figclip_cli.export import session as session_module

    options, folder = ExportOptions(), tmp_path_factory.mktemp("exported") / "open-clip"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(session_module, "reloaded", outputs_here)
        (summary,) = export(finished_run, planned_folders(finished_run, options, folder), options)
    return summary.folder


@pytest.fixture(scope="session")
def noise():
    """Three pictures of noise, (3, 32, 32, 3) uint8."""
    return torch.randint(0, 256, (3, 32, 32, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
