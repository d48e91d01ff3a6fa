"""Which results of ``figclip evaluate`` are those of a run at a scale."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from figclip_cli.errors import InputError
from figclip_cli.evaluate.results import Results, read_results
from figclip_cli.files import sha256_of_file
from figclip_cli.run_folder import RunFolder


def results_of_run(run: RunFolder, scale: float, files: Sequence[Path]) -> list[tuple[Path, Results]]:
    """Return the results in ``files`` of this scale, each with its file, in the order of their tasks.

    Raises:
        InputError: A file is not a results file, or its results are of another run.
    """
    adapter = sha256_of_file(run.adapter_file)
    found = []
    for path in files:
        results = read_results(path)
        about = results.models.get("adapted", {})
        if about.get("adapter_sha256") != adapter:
            raise InputError(f"{path} does not have results of {run.path}", "evaluate with --run, or leave it out")
        if "contextualizer_sha256" in about:
            message = f"{path} has numbers of clips read through the contextualizer, which no image tower has"
            raise InputError(message, "evaluate with --features plain, or leave it out")
        if about.get("scale", 1.0) == scale:
            found.append((path, results))
    return sorted(found, key=lambda pair: (pair[1].task, pair[1].dataset_id, pair[1].dataset_sha256))
