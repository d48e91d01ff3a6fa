"""What the tests of ONNX and of torch.export share: one folder, what it was made of, and what it must give."""

from __future__ import annotations

from types import SimpleNamespace

from exporting import outputs_here

from figclip_cli.export import ExportOptions
from figclip_cli.export.formats import format_named
from figclip_cli.export.material import attach, merged
from figclip_cli.export.references import Reference, clip_outputs, roundoff
from figclip_cli.export.samples import draw_samples
from figclip_cli.export.verify import compare
from figclip_cli.models.adapted import load_base


def made_of(run, folder, name):
    """Write a run into a folder, without the process that opens it."""
    base = load_base(run)
    state = {name: tensor.clone() for name, tensor in base.model.state_dict().items()}
    samples = draw_samples(base.preprocess.size)
    base_outputs = clip_outputs(base, samples)
    adapted = attach(base, state, run, 1.0)
    outputs = clip_outputs(adapted, samples)
    material = merged(run, ExportOptions(to=(name,)), 1.0, adapted, state, None)
    format_named(name).write(folder, material)
    reference = Reference(outputs, {}, None, material.logit_scale, roundoff(material.dtype))
    return SimpleNamespace(
        name=name, folder=folder, material=material, base_outputs=base_outputs, samples=samples, reference=reference
    )


def found_in(made, folder):
    """Run the program that opens the folder, in this process."""
    return outputs_here(format_named(made.name), folder, made.samples)


def problem_of(made, folder):
    """Return what is wrong with a folder that should be as the made one is, or None."""
    return compare(made.reference, found_in(made, folder)).problem


def by_the_card(made, **given):
    """Run the lines of the card, and return the names that they leave."""
    names = dict(given)
    exec(format_named(made.name).usage(made.material).replace("FOLDER", str(made.folder)), names)
    return names
