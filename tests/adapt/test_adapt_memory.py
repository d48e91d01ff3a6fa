"""What a step needs, counted; what is advised when it is too much."""

from __future__ import annotations

import re

import pytest
import torch
from torch import nn

from figclip_cli.adapt.memory import (
    MemoryNeed,
    advice,
    available_bytes,
    is_out_of_memory,
    memory_need,
    out_of_memory,
    readable,
    saved_bytes,
    warn_of_memory,
)
from figclip_cli.errors import MachineError
from figclip_cli.reporting import SilentReporter

CPU = torch.device("cpu")
MIB = 1 << 20


def small_network():
    return nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2))


@pytest.mark.parametrize("count", [1, 3, 10])
def test_what_is_kept_equals_a_count_by_hand(count):
    """The inputs, for the first weight's gradient, and what ReLU gave, for itself and the second weight's."""
    net = small_network()
    assert saved_bytes(net, torch.randn(count, 4), list(net.parameters())) == count * (4 + 6) * 4


def test_a_frozen_layer_keeps_less_and_a_frozen_network_nothing():
    net = small_network()
    net[0].requires_grad_(False)
    assert saved_bytes(net, torch.randn(5, 4), list(net.parameters())) == 5 * 6 * 4
    net.requires_grad_(False)
    assert saved_bytes(net, torch.randn(5, 4), list(net.parameters())) == 0


def test_what_is_kept_is_counted_where_gradients_are_off():
    net = small_network()
    with torch.no_grad():
        assert saved_bytes(net, torch.randn(1, 4), list(net.parameters())) == 40


def test_a_view_is_no_second_copy():
    weight = torch.randn(6, requires_grad=True)
    kept = saved_bytes(lambda x: (x * weight).view(2, 3).exp().flatten() * weight, torch.randn(6), [weight])
    assert kept == (6 + 6) * 4  # the inputs, and the result of exp, which the product after it shares


def test_weights_are_counted_once_and_trained_ones_four_times():
    net = small_network()
    net[0].requires_grad_(False)
    need = memory_need(net, torch.randn(1, 4), list(net.parameters()), frames=7)
    assert need.weights == (4 * 6 + 6) * 4 + 4 * (6 * 2 + 2) * 4
    assert need.of_frame == 6 * 4 and need.total == need.weights + 7 * need.of_frame


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 KiB"), (2048, "2 KiB"), (MIB, "1.0 MiB"), (1536 * MIB, "1.5 GiB"), (1000 * MIB, "1000.0 MiB")],
)
def test_bytes_are_written_for_a_person(count, text):
    assert readable(count) == text


def test_a_need_is_one_phrase():
    text = MemoryNeed(MIB, 2 * MIB, 3).describe()
    assert text == "at least 7.0 MiB: 1.0 MiB for weights and moments, 2.0 MiB for each of 3 frames"


def advised(text):
    found = re.match(r"pass --micro-batch-clips (\d+) \(at least ", text)
    return int(found[1]) if found else None


@pytest.mark.parametrize("available", [None, 0, 100 * MIB, 10**12])
def test_advice_goes_down_and_ends_without_a_smaller_number(available):
    clips, steps = 20, []
    while clips > 1:
        need = MemoryNeed(10 * MIB, MIB, frames=20 * clips)
        lower = advised(advice(need, available, clips))
        assert lower is not None and 1 <= lower < clips
        steps.append(lower)
        clips = lower
    assert steps[-1] == 1
    last = advice(MemoryNeed(10 * MIB, MIB, 20), available, 1)
    assert advised(last) is None and "--gradient-checkpointing" in last and "bf16" in last


def test_advice_fits_into_what_is_there():
    """16 clips of 10 frames of 1 MiB; 0.8 of 50 MiB less 10 of weights are 30: three clips."""
    text = advice(MemoryNeed(10 * MIB, MIB, frames=160), 50 * MIB, 16)
    assert advised(text) == 3 and "each of 30 frames" in text
    assert advised(advice(MemoryNeed(10 * MIB, MIB, frames=160), 10**12, 16)) == 8


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        MemoryError(),
        RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: not enough memory: you tried to ..."),
        RuntimeError("[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you"),
    ],
)
def test_what_says_that_memory_ran_out_is_known(error):
    assert is_out_of_memory(error)


def test_what_this_machine_says_when_memory_runs_out_is_known():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 50)
    assert is_out_of_memory(caught.value)


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("mat1 and mat2 shapes cannot be multiplied"),
        RuntimeError("CUDA error: device-side assert triggered"),
        ValueError("not enough memory"),
        KeyboardInterrupt(),
        OSError("Cannot allocate memory"),
    ],
)
def test_other_errors_are_not_taken_for_it(error):
    assert not is_out_of_memory(error)


def test_the_memory_of_the_cpu_is_known():
    assert available_bytes(CPU) is None or available_bytes(CPU) > MIB


def test_the_error_says_what_was_too_much_and_what_to_lower():
    net = small_network()
    error = out_of_memory(lambda: memory_need(net, torch.randn(1, 4), list(net.parameters()), 8), CPU, clips=4)
    assert isinstance(error, MachineError) and error.exit_code == 1
    assert error.message.startswith("the cpu is out of memory with 4 clips at once: a step needs at least ")
    assert "for each of 8 frames" in error.message and error.hint.startswith("pass --micro-batch-clips 2 (")


def test_where_even_one_frame_does_not_fit_that_is_said():
    def full():
        raise torch.OutOfMemoryError("CUDA out of memory")

    error = out_of_memory(full, CPU, clips=4)
    assert error.message == "the cpu is out of memory with 4 clips at once" and "even one frame" in error.hint


class Notes(SilentReporter):
    def __init__(self):
        self.details, self.warnings = [], []

    def detail(self, message):
        self.details.append(message)

    def warn(self, message):
        self.warnings.append(message)


@pytest.mark.parametrize(("frames", "warned"), [(1, False), (1 << 40, True)])
def test_a_need_that_the_machine_cannot_meet_is_warned_of(monkeypatch, frames, warned):
    monkeypatch.setattr("figclip_cli.adapt.memory.available_bytes", lambda device: 10 * MIB)
    notes = Notes()
    warn_of_memory(MemoryNeed(0, MIB, frames), CPU, notes)
    assert len(notes.details) == 1 and bool(notes.warnings) == warned
    assert all("free are 10.0 MiB: see --micro-batch-clips" in line for line in notes.warnings)


def test_where_free_memory_is_unknown_nothing_is_warned_of(monkeypatch):
    monkeypatch.setattr("figclip_cli.adapt.memory.available_bytes", lambda device: None)
    notes = Notes()
    warn_of_memory(MemoryNeed(0, MIB, 1 << 40), CPU, notes)
    assert notes.warnings == []
