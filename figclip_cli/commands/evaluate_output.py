"""Where results go and what else is written: the same for every task of ``figclip evaluate``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from figclip_cli.commands.tables import groups_table, results_table
from figclip_cli.console import Terminal
from figclip_cli.errors import PartialError
from figclip_cli.option_fields import flag

if TYPE_CHECKING:
    from figclip_cli.evaluate.evaluation import Evaluation
    from figclip_cli.run_folder import RunFolder

_OUTPUT = "Output"
FramesFlag = Annotated[list[Path] | None, typer.Option("--frames", help="Frames file; repeat for several.")]


@dataclass(frozen=True)
class OutputOptions:
    """What is written beside the table; see each field's help."""

    output: Path | None = flag(None, "Results JSON. Default: results/TASK-DATA-MODEL.json", _OUTPUT, also="-o")
    overwrite: bool = flag(False, "Replace an existing results file.", _OUTPUT)
    samples: bool = flag(True, "Write every item's outcome beside the results, for figclip compare.", _OUTPUT)
    groups: bool = flag(False, "Also print the numbers of each relation, kind, class or split.", _OUTPUT)
    clip_benchmark: Path | None = flag(None, "Also write CLIP_benchmark-style records to this folder.", _OUTPUT)
    cache: bool = flag(True, "Use and keep features in .figclip/ in the current folder.", _OUTPUT)

    def cache_folder(self) -> Path | None:
        """Return the folder in whose ``.figclip`` features are kept, or None."""
        return Path() if self.cache else None

    def choose(self, terminal: Terminal, task: str, dataset: str, run: RunFolder | None) -> Path:
        """Return where the results go.

        Raises:
            UsageError: They are there already.
        """
        from figclip_cli.files import refuse_existing

        default = Path("results") / f"{task}-{dataset}-{run.name if run else 'base'}.json"
        output = terminal.default(self.output, default, "results")
        refuse_existing(output, overwrite=self.overwrite)
        return output


def finish(terminal: Terminal, evaluation: Evaluation, output: Path, options: OutputOptions) -> None:
    """Write and print what was found.

    Raises:
        PartialError: Some items were not evaluated; everything is written before.
    """
    results = evaluation.write(output, samples=options.samples)
    if options.clip_benchmark is not None:
        from figclip_cli.evaluate.records import write_records

        for path in write_records(options.clip_benchmark, results):
            terminal.info(f"record: {path}")
    tables = [results_table(results)]
    if options.groups and results.groups:
        tables.append(groups_table(results))
    terminal.result(results.as_document(), *tables, text=str(output))
    missing = results.missing
    if missing:
        first, unit = next(iter(missing)), "images" if "images" in results.asked else "clips"
        raise PartialError(
            f"{len(missing)} {unit} were not evaluated, the first is {first}: {missing[first]}",
            f'all of them are listed under "missing" in {output}; the set is smaller than asked for',
        )
