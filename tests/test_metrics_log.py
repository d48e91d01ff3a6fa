"""metrics.jsonl: appended to, cut where a run goes on, never torn."""

from __future__ import annotations

import builtins
import errno
import json
import sys
from types import SimpleNamespace

import pytest

from figclip_cli.errors import MachineError, UsageError
from figclip_cli.metrics_log import MetricsLog


def line(step, **more):
    return {"step": step, "loss": step / 2, **more}


def written(path, *lines, step=0, epoch=0):
    log = MetricsLog(path, step=step, epoch=epoch)
    for one in lines:
        log.write(one)
    log.close()
    return path


def read(path):
    return [json.loads(one) for one in path.read_text().splitlines()]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "metrics.jsonl"


def test_lines_are_in_the_order_of_writing_with_sorted_keys(path):
    written(path, line(1, epoch=1), line(2, epoch=1))
    assert read(path) == [line(1, epoch=1), line(2, epoch=1)]
    assert [list(one) for one in read(path)] == [["epoch", "loss", "step"]] * 2


@pytest.mark.parametrize(("step", "kept"), [(0, 0), (2, 2), (5, 5), (9, 5)])
def test_lines_of_steps_that_are_run_again_are_cut(path, step, kept):
    written(path, *map(line, range(1, 6)))
    written(path, line(99), step=step)
    assert read(path) == [*map(line, range(1, kept + 1)), line(99)]


@pytest.mark.parametrize("torn", ['{"loss":1.5,"st', '{"loss":1.5,"step":3}', "\x00\x00\x00", "{}\n", "[1]\n", "12\n"])
def test_a_torn_last_line_is_cut_too(path, torn):
    written(path, line(1), line(2))
    with path.open("a") as file:
        file.write(torn)
    written(path, line(3), step=3)
    assert read(path) == [line(1), line(2), line(3)]


def test_a_validation_line_is_kept_with_its_step(path):
    of_validation = {"step": 2, "epoch": 1, "validation": {"event_mrr": 0.5, "told/verb-role": 0.25}}
    written(path, line(1), line(2), of_validation, line(3), {**of_validation, "step": 4})
    written(path, step=2, epoch=1)
    assert read(path) == [line(1), line(2), of_validation]


def test_a_validation_of_an_epoch_that_does_not_count_as_finished_is_cut(path):
    """A run that ended between a validation and its note in the checkpoint measures it again."""
    of_validation = {"step": 2, "epoch": 1, "validation": {"event_mrr": 0.5}}
    written(path, line(1, epoch=1), line(2, epoch=1), of_validation)
    written(path, step=2, epoch=0)
    assert read(path) == [line(1, epoch=1), line(2, epoch=1)]


def test_what_is_flushed_is_on_the_disk_while_the_log_is_open(path):
    log = MetricsLog(path, step=0, epoch=0)
    log.write(line(1))
    log.flush()
    assert read(path) == [line(1)]
    log.close()


def test_a_value_that_json_does_not_have_is_never_written(path):
    log = MetricsLog(path, step=0, epoch=0)
    with pytest.raises(ValueError):
        log.write(line(1, bad=float("nan")))
    log.write(line(2, norm=None))
    log.close()
    assert read(path) == [line(2, norm=None)]


def test_a_full_disk_is_one_line(path):
    log = MetricsLog(path, step=0, epoch=0)

    class Full:
        def write(self, text):
            raise OSError(errno.ENOSPC, "No space left on device")

    log._file.close()
    log._file = Full()
    with pytest.raises(MachineError, match="no space left on the device that holds .*metrics.jsonl"):
        log.write(line(1))


def test_without_tensorboard_the_flag_says_what_to_install(path, tmp_path, monkeypatch):
    real = builtins.__import__

    def without(name, *arguments, **options):
        if name.startswith(("torch.utils.tensorboard", "tensorboard")):
            raise ImportError(f"No module named '{name}'")
        return real(name, *arguments, **options)

    monkeypatch.delitem(sys.modules, "torch.utils.tensorboard", raising=False)
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UsageError, match="--tensorboard needs TensorBoard") as caught:
        MetricsLog(path, step=0, epoch=0, tensorboard=tmp_path / "tb")
    assert caught.value.hint == "pip install 'figclip-cli[tensorboard]'"
    MetricsLog(path, step=0, epoch=0).close()  # and without the flag nothing is needed


class Writer:
    made: list = []

    def __init__(self, folder):
        self.folder, self.scalars, self.closed = folder, [], False
        Writer.made.append(self)

    def add_scalar(self, tag, value, step):
        self.scalars.append((tag, value, step))

    def close(self):
        self.closed = True


def test_tensorboard_gets_the_numbers_of_each_step(path, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", SimpleNamespace(SummaryWriter=Writer))
    log = MetricsLog(path, step=0, epoch=0, tensorboard=tmp_path / "tb")
    log.write({"step": 7, "epoch": 2, "loss": 0.5, "gradient_norm": None})
    log.close()
    writer = Writer.made[-1]
    assert writer.folder == str(tmp_path / "tb") and writer.closed
    assert writer.scalars == [("loss", 0.5, 7)]
    assert read(path) == [{"step": 7, "epoch": 2, "loss": 0.5, "gradient_norm": None}]


def test_tensorboard_gets_the_validation_too(path, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", SimpleNamespace(SummaryWriter=Writer))
    log = MetricsLog(path, step=0, epoch=0, tensorboard=tmp_path / "tb")
    log.write({"step": 7, "epoch": 2, "validation": {"event_mrr": 0.25}})
    log.close()
    assert Writer.made[-1].scalars == [("validation/event_mrr", 0.25, 7)]
