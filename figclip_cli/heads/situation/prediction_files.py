"""VidSitu's leaderboard files, and beside them what they were made with."""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from figclip_cli import __version__
from figclip_cli.errors import UsageError
from figclip_cli.evaluate.datasets.vidsitu_annotations import EVENTS
from figclip_cli.files import check_output, replacing, sha256_of_file, write_json
from figclip_cli.heads.situation.options import PARTS
from figclip_cli.heads.situation.predicting import ClipPrediction

FORMAT, FORMAT_VERSION = "figclip-predictions", 1
ABOUT = "predictions.json"
SPLIT = "vseg_split.json"
_ENDINGS = {"json": (".json",), "pickle": (".pkl",), "both": (".json", ".pkl")}
_PICKLE_PROTOCOL = 4  # read by every Python 3


@dataclass(frozen=True)
class PredictionFolder:
    """Where predictions go.

    Attributes:
        path: The folder.
        format: ``json``, ``pickle`` or ``both``.
    """

    path: Path
    format: str

    def check(self, *, overwrite: bool, inputs: Sequence[Path]) -> None:
        """Refuse what must not be written; files of an earlier prediction count, whatever their format.

        Raises:
            UsageError: There are predictions, or one of the files is an input.
            MachineError: The folder cannot be written.
        """
        if self.path.exists() and not self.path.is_dir():
            raise UsageError(f"{self.path} is a file, not a folder", "choose another --output")
        for path in self._all():
            check_output(path, overwrite=overwrite, inputs=inputs)

    def _all(self) -> Iterator[Path]:
        for part in PARTS:
            for ending in _ENDINGS["both"]:
                yield self.path / f"{part}{ending}"
        yield self.path / SPLIT
        yield self.path / ABOUT

    def write(
        self,
        clip_ids: Sequence[str],
        predictions: Mapping[str, ClipPrediction],
        parts: Sequence[str],
        about: Mapping[str, Any],
        *,
        split: bool,
    ) -> dict[str, Any]:
        """Write the files of all parts, and last what they were made with; return that.

        Files of an earlier prediction are removed first: what is in the folder belongs together.

        Args:
            clip_ids: Of the split, in its order, which ``ann_idx`` counts.
            predictions: Of those that could be predicted.
            split: Whether to write the list of clips too.
        """
        for path in reversed(list(self._all())):  # the document about them first
            path.unlink(missing_ok=True)
        written: list[Path] = []
        if split:
            written.append(self.path / SPLIT)
            write_json(written[0], list(clip_ids))
        for part in parts:
            rows = [
                _RECORDS[part](number, predictions[clip_id])
                for number, clip_id in enumerate(clip_ids)
                if clip_id in predictions
            ]
            written += self._write_part(part, rows)
        document = {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "figclip": __version__,
            **about,
            "files": {path.name: sha256_of_file(path) for path in written},
        }
        write_json(self.path / ABOUT, document)
        return document

    def _write_part(self, part: str, rows: list[dict[str, Any]]) -> Iterator[Path]:
        for ending in _ENDINGS[self.format]:
            path = self.path / f"{part}{ending}"
            if ending == ".json":
                write_json(path, rows)
            else:
                with replacing(path) as temporary:
                    temporary.write_bytes(pickle.dumps(rows, protocol=_PICKLE_PROTOCOL))
            yield path


def _verbs(number: int, made: ClipPrediction) -> dict[str, Any]:
    return {"ann_idx": number, "pred_vbs_ev": made.verbs, "pred_scores_ev": made.verb_scores}


def _roles(number: int, made: ClipPrediction) -> dict[str, Any]:
    events = zip(EVENTS, made.senses, made.roles, strict=True)
    return {"ann_idx": number, "vb_output": {event: {"vb_id": sense, **roles} for event, sense, roles in events}}


def _relations(number: int, made: ClipPrediction) -> dict[str, Any]:
    return {"ann_idx": number, "pred_evrels_ev": made.relations, "pred_scores_ev": made.relation_scores}


_RECORDS = {"verbs": _verbs, "roles": _roles, "relations": _relations}
