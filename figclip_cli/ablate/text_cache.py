"""Texts are encoded before the cells that train on them, in a process of its own: no cell pays for all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from figclip_cli.ablate.cell import Job
from figclip_cli.ablate.plan import Cell
from figclip_cli.ablate.shared_prompts import shared_prompts
from figclip_cli.models.clip import load_clip
from figclip_cli.models.text_features import encode_distinct
from figclip_cli.prompts import read_prompts
from figclip_cli.reporting import SILENT


@dataclass(frozen=True)
class TextJob:
    """Texts of one prompts file.

    Attributes:
        job: One of the cells that train on it.
        uses_negatives: Whether a cell trains on its negatives too.
    """

    job: Job
    uses_negatives: bool

    @property
    def cell(self) -> Cell:
        """The cell of the job."""
        return self.job.cell


def text_jobs(jobs: Sequence[Job]) -> list[TextJob]:
    """Return one job for each prompts file whose texts are looked up in training; a tuned text tower looks up none."""
    frozen = [job for job in jobs if job.cell.options.towers == "image"]
    made: dict[str, TextJob] = {}
    for job in frozen:
        key = job.cell.prompts_sha256
        before = made.get(key)
        uses = job.cell.options.hard_negatives or (before is not None and before.uses_negatives)
        made[key] = TextJob(job if before is None else before.job, uses)
    return list(made.values())


def encode_texts(asked: TextJob) -> None:
    """Build the prompts where they are not there, and keep features of their texts beside them.

    Raises:
        FigclipError: Prompts, annotation or model are broken.
    """
    job = asked.job
    prompts = job.prompts or shared_prompts(job.folder, job.cell, job.annotations, SILENT)
    events = read_prompts(prompts).events
    texts = {event.text for event in events}
    if asked.uses_negatives:
        texts |= {negative.text for event in events for negative in event.negatives}
    if job.device == "cpu" and job.threads:
        torch.set_num_threads(job.threads)
    clip = load_clip(job.source, device=torch.device(job.device), reporter=SILENT)
    encode_distinct(clip, texts, cache_beside=prompts, reporter=SILENT)
