"""The loop learns, keeps the best epoch, resumes to the same bytes, and refuses what is not finite."""

from __future__ import annotations

import json

import pytest
import torch
from torch import nn

from figclip_cli.errors import InputError, UsageError, VerificationError
from figclip_cli.heads.chance import seed_of
from figclip_cli.heads.folder import HeadFolder, newest_head
from figclip_cli.heads.options import TrainingOptions
from figclip_cli.heads.training import Validation, fit
from figclip_cli.learning_rate import learning_rate_factor
from figclip_cli.models.tensors import load_tensors, save_tensors

CONFIG = {"format": "figclip-head", "format_version": 1, "task": "toy"}


class Toy:
    """Learns y = 2 x + dropout noise; ``stop_in`` makes an epoch fail as a kill would."""

    def __init__(self, scores=None, stop_in=None, scale=1.0):
        torch.manual_seed(seed_of(0, "weights"))
        self.module = nn.Sequential(nn.Linear(2, 8), nn.Dropout(0.2), nn.Linear(8, 1))
        self.scores, self.stop_in, self.scale, self.seen = scores, stop_in, scale, []

    def steps(self):
        return 4

    def batches(self, epoch):
        self.seen.append(epoch)
        generator = torch.Generator().manual_seed(epoch)
        for number in range(4):
            if (epoch, number) == self.stop_in:
                raise KeyboardInterrupt
            yield torch.randn(16, 2, generator=generator)

    def loss(self, batch):
        loss = ((self.module(batch) - 2 * batch.sum(1, keepdim=True)) ** 2).mean() * self.scale
        return loss, {"twice": float(2 * loss.detach())}

    def validate(self):
        if self.scores is None:
            return None
        assert not self.module.training
        return Validation(self.scores[len(self.seen) - 1], higher_is_better=False, parts={"n": 3.0})


def start(tmp_path, task, options, resume=False, name="head"):
    folder = HeadFolder(tmp_path / name)
    resuming = folder.check(CONFIG, may_change=frozenset(), resume=resume, overwrite=False)
    folder.begin(CONFIG, resuming=resuming)
    return folder, fit(task, folder, options, resuming=resuming)


def lines(folder):
    return [json.loads(line) for line in folder.metrics_file.read_text().splitlines()]


def test_the_loss_falls_and_is_logged_by_epoch(tmp_path):
    folder, summary = start(tmp_path, Toy(), TrainingOptions(epochs=12, lr=0.05))
    logged = lines(folder)
    assert [line["epoch"] for line in logged] == list(range(1, 13)) and logged[-1]["step"] == 48 == summary.steps
    assert logged[-1]["loss"] < logged[0]["loss"] / 3
    assert logged[0]["twice"] == pytest.approx(2 * logged[0]["loss"])
    assert (summary.best_epoch, summary.best_score, summary.parameters) == (12, None, 33)


def test_the_best_epoch_is_kept_and_not_the_last(tmp_path):
    task = Toy(scores=[3.0, 1.0, 2.0])
    folder, summary = start(tmp_path, task, TrainingOptions(epochs=3, lr=0.05))
    assert (summary.best_epoch, summary.best_score) == (2, 1.0)
    kept, about = load_tensors(folder.weights_file, "head")
    assert about["epoch"] == 2
    shorter = Toy(scores=[3.0, 1.0, 2.0], stop_in=(2, 0))
    with pytest.raises(KeyboardInterrupt):
        start(tmp_path, shorter, TrainingOptions(epochs=3, lr=0.05), name="other")
    for name, tensor in shorter.module.state_dict().items():
        assert torch.equal(tensor, kept[name]) and torch.equal(task.module.state_dict()[name], kept[name])
    assert lines(folder)[1]["validation"] == {"score": 1.0, "n": 3.0}


@pytest.mark.parametrize("stop_in", [(0, 2), (1, 0), (2, 3)])
def test_a_run_that_was_stopped_ends_with_the_same_bytes(tmp_path, stop_in):
    options = TrainingOptions(epochs=4, lr=0.05)
    whole, summary = start(tmp_path, Toy(scores=[4.0, 2.0, 3.0, 2.5]), options)
    with pytest.raises(KeyboardInterrupt):
        start(tmp_path, Toy(scores=[4.0, 2.0, 3.0, 2.5], stop_in=stop_in), options, name="cut")
    # As after a kill in the middle of a line.
    (tmp_path / "cut" / "metrics.jsonl").open("a").write('{"epoch": 9')
    resumed = Toy(scores=[4.0, 2.0, 3.0, 2.5])
    resumed.seen = list(range(stop_in[0]))
    cut, again = start(tmp_path, resumed, options, resume=True, name="cut")
    assert resumed.seen == [0, 1, 2, 3]
    for name in ("head.safetensors", "metrics.jsonl", "checkpoints/last.safetensors"):
        assert (cut.path / name).read_bytes() == (whole.path / name).read_bytes(), name
    assert (again.best_epoch, again.best_score) == (summary.best_epoch, summary.best_score) == (2, 2.0)


def test_what_is_not_finite_ends_it_with_the_epochs_before_kept(tmp_path):
    with pytest.raises(VerificationError, match="step 1: the loss is"):
        start(tmp_path, Toy(scale=float("inf")), TrainingOptions(epochs=2))
    with pytest.raises(VerificationError, match="validation score is nan"):
        start(tmp_path, Toy(scores=[1.0, float("nan")]), TrainingOptions(epochs=2), name="second")
    assert (tmp_path / "second" / "checkpoints" / "last.safetensors").is_file()
    assert len(lines(HeadFolder(tmp_path / "second"))) == 1


def test_a_damaged_checkpoint_is_named(tmp_path):
    folder, _ = start(tmp_path, Toy(), TrainingOptions(epochs=1))
    folder.checkpoint_file.write_bytes(b"torn")
    with pytest.raises(InputError, match="checkpoint"):
        start(tmp_path, Toy(), TrainingOptions(epochs=1), resume=True)


def test_a_damaged_checkpoint_costs_a_finished_head_nothing(tmp_path):
    folder, summary = start(tmp_path, Toy(), TrainingOptions(epochs=1))
    folder.finish(CONFIG, summary.as_dict(), "card")
    folder.checkpoint_file.write_bytes(b"torn")
    with pytest.raises(InputError, match="checkpoint"):
        start(tmp_path, Toy(), TrainingOptions(epochs=1), resume=True)
    assert folder.is_done and "result" in folder.load_config()
    folder.checkpoint_file.unlink()
    with pytest.raises(UsageError, match="is finished and has no checkpoint"):
        start(tmp_path, Toy(), TrainingOptions(epochs=1), resume=True)
    assert folder.is_done


def test_a_checkpoint_of_another_head_is_refused_in_one_line(tmp_path):
    folder, _ = start(tmp_path, Toy(), TrainingOptions(epochs=1))
    save_tensors(folder.checkpoint_file, {"module.odd": torch.zeros(1)}, {"progress": {}})
    with pytest.raises(InputError, match="damaged or of another head"):
        start(tmp_path, Toy(), TrainingOptions(epochs=1), resume=True)


def test_files_beside_the_weights_are_those_they_were_written_with(tmp_path):
    folder, summary = start(tmp_path, Toy(), TrainingOptions(epochs=1))
    folder.vocabulary_file.write_text("{}")
    folder.labels_file.write_text("[]")
    folder.finish(CONFIG, {**summary.as_dict(), "files": folder.companions()}, "card")
    folder.require_companions(folder.load_config())
    folder.labels_file.write_text("[1]")
    with pytest.raises(InputError, match="labels.json is not the file"):
        folder.require_companions(folder.load_config())
    with pytest.raises(InputError, match="is not the file"):
        folder.require_companions({"result": None})


def test_the_rate_rises_then_falls_to_nothing():
    factors = [learning_rate_factor(step, warmup_steps=4, schedule="cosine", total_steps=20) for step in range(20)]
    assert factors[:4] == [0.25, 0.5, 0.75, 1.0] and factors[4] == 1.0
    assert all(a > b for a, b in zip(factors[4:], factors[5:], strict=False)) and factors[-1] < 0.02
    assert learning_rate_factor(0, warmup_steps=0, schedule="cosine", total_steps=1) == 1.0


def test_heads_of_another_task_or_unfinished_ones_are_not_taken(tmp_path):
    with pytest.raises(InputError, match="no finished head"):
        newest_head("toy", tmp_path)
    folder, summary = start(tmp_path, Toy(), TrainingOptions(epochs=1))
    with pytest.raises(InputError, match="not finished"):
        folder.load_config()
    folder.finish(CONFIG, summary.as_dict(), "card")
    assert newest_head("toy", tmp_path) == folder
    with pytest.raises(InputError, match="no finished head for situation"):
        newest_head("situation", tmp_path)
    later, _ = start(tmp_path, Toy(), TrainingOptions(epochs=1), name="later")
    later.finish({**CONFIG, "task": "situation"}, summary.as_dict(), "card")
    assert newest_head("toy", tmp_path) == folder and newest_head("situation", tmp_path) == later
    with pytest.raises(UsageError, match="head folder .* already exists"):
        folder.check(CONFIG, may_change=frozenset(), resume=False, overwrite=False)


@pytest.mark.parametrize(
    "wrong",
    [
        *({"epochs": 0}, {"lr": 0.0}, {"lr": float("nan")}, {"dropout": 1.0}, {"dropout": float("nan")}),
        *({"warmup": 1.0}, {"weight_decay": float("nan")}, {"max_gradient_norm": float("inf")}),
    ],
)
def test_options_that_cannot_be_are_refused(wrong):
    with pytest.raises(UsageError):
        TrainingOptions(**wrong)
