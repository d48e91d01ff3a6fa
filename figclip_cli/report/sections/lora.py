"""The LoRA table: what was adapted, how many numbers that trains, and how far they went."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from figclip_cli.evaluate.situation_page.cells import escaped, isolated
from figclip_cli.report.markup import Row, Section, table
from figclip_cli.report.runs import ReportRun
from figclip_cli.report.texts import code
from figclip_cli.report.updates import update_norms

ANCHOR, TITLE = "lora", "LoRA"
_SETTINGS: tuple[tuple[str, Callable[[ReportRun], str]], ...] = (
    ("rank", lambda run: f"{run.config['lora']['rank']}" + ("" if run.config["lora"]["rank"] else " (all weights)")),
    ("alpha", lambda run: f"{run.config['lora']['alpha']:g}"),
    ("dropout", lambda run: f"{run.config['lora']['dropout']:g}"),
    ("projections", lambda run: escaped(", ".join(run.config["lora"]["targets"]))),
    ("blocks", lambda run: isolated(run.config["lora"]["blocks"])),
    ("towers", lambda run: isolated(run.config["lora"]["towers"])),
    ("modules", lambda run: f"{len(run.config['lora']['modules']):,}"),
    ("trained parameters", lambda run: f"{_parameters(run):,}"),
    ("adapter (SHA-256)", lambda run: code(run.adapter_sha256)),
)


def lora(runs: Sequence[ReportRun]) -> Section:
    """Return the settings of each run, and its modules beside those of the others.

    Raises:
        InputError: An adapter is damaged.
    """
    settings = [Row((name,), tuple(show(run) for run in runs)) for name, show in _SETTINGS]
    columns = [isolated(run.label) for run in runs]
    html = table("What was adapted", ("setting", *columns), settings)
    parameters = [{one["name"]: one["parameters"] for one in run.config["lora"]["modules"]} for run in runs]
    norms = [update_norms(run) for run in runs]
    rows = [
        Row(
            (isolated(name),),
            tuple(_cell(of_run, sizes, name) for of_run, sizes in zip(parameters, norms, strict=True)),
        )
        for name in dict.fromkeys(name for of_run in parameters for name in of_run)
    ]
    html += table("Trained parameters by module, and the size of its update", ("module", *columns), rows)
    return Section(
        ANCHOR,
        TITLE,
        html
        + '<p class="soft">The size of an update is the Frobenius norm of alpha / rank times B A, over all projections '
        "of the module; it is exact, so it has no error.</p>\n",
    )


def _parameters(run: ReportRun) -> int:
    return sum(one["parameters"] for one in run.config["lora"]["modules"])


def _cell(parameters: dict[str, int], norms: dict[str, float], name: str) -> str:
    if name not in parameters:
        return "not adapted"
    size = f"; update {norms[name]:.3g}" if name in norms else ""
    return f"{parameters[name]:,}{size}"
