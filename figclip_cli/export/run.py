"""The stage: what is asked for, checked before anything is loaded; then one folder after another."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from figclip_cli.errors import InputError, UsageError
from figclip_cli.export.card_results import results_of_run
from figclip_cli.export.folder import check_folder, unfit
from figclip_cli.export.formats import Format, format_named
from figclip_cli.export.options import FORMATS, ExportOptions, Target
from figclip_cli.export.samples import draw_samples
from figclip_cli.export.session import ExportSummary, Session
from figclip_cli.models.adapted import load_base
from figclip_cli.models.source import ModelSource
from figclip_cli.reporting import SILENT, Reporter
from figclip_cli.run_folder import RunFolder


def planned_folders(run: RunFolder, options: ExportOptions, output: Path | None) -> dict[Target, Path]:
    """Return where each export goes: to ``output`` itself if there is but one, else into it by name.

    Args:
        output: ``export/RUN`` by default, with every export in it by name.
    """
    if output is not None and len(options.targets) == 1:
        return {options.targets[0]: output}
    parent = output if output is not None else Path("export") / run.name
    return {target: parent / target.name for target in options.targets}


def export(
    run: RunFolder,
    folders: Mapping[Target, Path],
    options: ExportOptions,
    *,
    source: ModelSource | None = None,
    overwrite: bool = False,
    reporter: Reporter = SILENT,
) -> Iterator[ExportSummary]:
    """Write, open and compare one folder after another.

    Args:
        run: A finished run.
        folders: As :func:`planned_folders` returns them. Each gets its name only once it is whole and compared.
        source: Where the base model is now, if it moved.

    Yields:
        A summary of each. One that is over its bound is called ``NAME.unfit``, and the next ones are made all the same.

    Raises:
        UsageError: A folder exists, or the run cannot be had in a format; nothing is written then.
        InputError: The run, its base, the frames or the prompts are not usable; likewise.
        VerificationError: A library cannot open what was written for it.
    """
    formats = check(run, folders, options, source=source, overwrite=overwrite)
    base = load_base(run, source=source, reporter=reporter)
    samples = draw_samples(base.preprocess.size, frames=options.frames, prompts=options.prompts)
    session = Session(run, options, base, samples, formats)
    for scale in dict.fromkeys(target.scale for target in folders):
        wanted = [target for target in folders if target.scale == scale]
        with session.at(scale) as (material, references):
            for target in wanted:
                made = formats[target.format]
                reporter.info(f"{target.name}: writing, and re-loading with {made.library} in a fresh process")
                yield session.make(target, made, folders[target], material, references[made.holds])


def check(
    run: RunFolder,
    folders: Mapping[Target, Path],
    options: ExportOptions,
    *,
    source: ModelSource | None = None,
    overwrite: bool = False,
    reporter: Reporter = SILENT,
) -> dict[str, Format]:
    """Refuse what cannot be done, before anything is loaded; return the formats by name.

    Raises:
        UsageError: As :func:`export` says.
        InputError: The run is not usable, or results for the card are not its own.
    """
    config = run.load_config()
    if not run.name.isprintable():
        raise UsageError(f"the name of {run.path} has characters that cannot be printed", "rename the run folder")
    formats = {target.format: format_named(target.format) for target in folders}
    for made in formats.values():
        made.check(config, options)
    used = {path for target in folders for path, _ in results_of_run(run, target.scale, options.results)}
    for path in options.results:
        if path not in used:
            reporter.warn(f"{path} goes on no card: its results are of another scale")
    named = source or ModelSource(**config["model"]["source"])
    base = [Path(name) for name in (named.model, named.pretrained) if name and Path(name).exists()]
    inputs = [run.path, *base, *options.results, *options.frames, *([options.prompts] if options.prompts else [])]
    for folder in folders.values():
        check_folder(folder, overwrite=overwrite, inputs=inputs)
        check_folder(unfit(folder), overwrite=True, inputs=inputs)
    return formats


def possible_formats(run: RunFolder, *, dtype: str = "fp32", reporter: Reporter = SILENT) -> tuple[str, ...]:
    """Return the formats that a run can be had in on this machine; say which are left out, and why.

    Raises:
        InputError: The run is not usable.
        UsageError: The type is not known.
    """
    config, possible = run.load_config(), []
    for name in FORMATS:
        try:
            format_named(name).check(config, ExportOptions((name,), dtype=dtype))
            possible.append(name)
        except (InputError, UsageError) as error:
            reporter.warn(f"{name} is left out: {error.message}")
    return tuple(possible)
