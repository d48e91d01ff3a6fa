"""Moving and decoding batches ahead of the step."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest
import torch
from small_sources import annotations_of, opened, picture, write_small_source

from figclip_cli.adapt.batches import Batches, JpegFrames
from figclip_cli.adapt.frames_on_device import ahead, choose_jpeg_decoder, decoded_on, on_device
from figclip_cli.adapt.options import AdaptOptions
from figclip_cli.errors import InputError, UsageError
from figclip_cli.frames.preprocess import encode_jpeg

CPU, GPU = torch.device("cpu"), torch.device("cuda")
IDS = ["a", "b", "c", "d", "e"]


@pytest.mark.parametrize(
    ("asked", "device", "stored_as_jpeg", "expected"),
    [
        ("auto", CPU, True, "cpu"),
        ("auto", CPU, False, "cpu"),
        ("auto", GPU, True, "nvjpeg"),
        ("auto", GPU, False, "cpu"),
        ("cpu", GPU, True, "cpu"),
        ("cpu", CPU, True, "cpu"),
        ("nvjpeg", GPU, True, "nvjpeg"),
    ],
)
def test_the_decoder_is_chosen_by_where_it_can_be(asked, device, stored_as_jpeg, expected):
    assert choose_jpeg_decoder(asked, device, stored_as_jpeg=stored_as_jpeg) == expected


@pytest.mark.parametrize(("device", "why"), [(CPU, "the device is cpu"), (GPU, "the frames are stored raw")])
def test_nvjpeg_is_refused_where_it_cannot_be(device, why):
    with pytest.raises(UsageError, match=f"--jpeg-decoder nvjpeg cannot be used: {why}"):
        choose_jpeg_decoder("nvjpeg", device, stored_as_jpeg=False)


def stored(pictures):
    data = torch.frombuffer(bytearray(b"".join(pictures)), dtype=torch.uint8)
    return JpegFrames(data, tuple(map(len, pictures)))


def test_pictures_decode_in_order_and_close_to_what_they_were():
    arrays = [picture("a", number, 16) for number in range(3)]
    decoded = decoded_on(CPU, stored([encode_jpeg(one, 95) for one in arrays]), 16)
    assert decoded.shape == (3, 16, 16, 3) and decoded.dtype == torch.uint8
    assert np.abs(decoded.numpy().astype(int) - np.stack(arrays)).max() < 12


def test_no_pictures_are_no_frames():
    assert decoded_on(CPU, JpegFrames(torch.empty(0, dtype=torch.uint8), ()), 16).shape == (0, 16, 16, 3)


@pytest.mark.parametrize(
    "pictures",
    [
        [b"\x00" * 100],
        [encode_jpeg(picture("a", 0, 16), 95)[:40]],
        [encode_jpeg(picture("a", 0, 16), 95), b"not a jpeg"],
        [encode_jpeg(picture("a", 0, 16), 95), encode_jpeg(picture("a", 0, 8), 95)],
        [encode_jpeg(picture("a", 0, 8), 95)],
    ],
)
def test_a_damaged_picture_or_one_of_another_size_is_one_line(pictures):
    with pytest.raises(InputError, match="a stored picture cannot be decoded") as caught:
        decoded_on(CPU, stored(pictures), 16)
    assert "\n" not in caught.value.message and caught.value.hint == "extract the frames again"


def test_too_little_memory_is_not_taken_for_a_damaged_picture(monkeypatch):
    def full(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr("torchvision.io.decode_jpeg", full)
    with pytest.raises(torch.OutOfMemoryError):
        decoded_on(CPU, stored([encode_jpeg(picture("a", 0, 16), 95)]), 16)


@pytest.mark.parametrize("as_jpeg", [False, True])
def test_batches_arrive_decoded_with_the_texts_that_are_known(tmp_path, as_jpeg):
    sources = opened([write_small_source(tmp_path, "s", IDS)])
    annotations, _ = annotations_of(sources, AdaptOptions())
    batches = Batches(sources, annotations, size=2, seed=0, as_jpeg=as_jpeg)
    found = list(on_device(batches.stream(0, 0, 2), CPU, 8, lambda layout: layout.text_rows * 10))
    plain = list(Batches(sources, annotations, size=2, seed=0).stream(0, 0, 2))
    assert [(one.epoch, one.number) for one in found] == [(one.epoch, one.number) for one in plain]
    for one, expected in zip(found, plain, strict=True):
        assert torch.equal(one.texts, one.layout.text_rows * 10)
        assert (one.frames.int() - expected.frames.int()).abs().max() <= (2 if as_jpeg else 0)
        assert one.layout.clip_ids == expected.layout.clip_ids


def test_items_made_ahead_come_in_order_and_whole():
    assert list(ahead(iter(range(50)))) == list(range(50))
    assert list(ahead(iter([]))) == []


def test_an_item_is_made_while_the_one_before_is_used():
    made = threading.Event()

    def items():
        yield 1
        made.set()
        yield 2

    stream = ahead(items())
    assert next(stream) == 1 and made.wait(5)
    assert list(stream) == [2]


@pytest.mark.parametrize("error", [InputError("broken", "mend it"), KeyboardInterrupt(), StopAsyncIteration()])
def test_what_making_raises_is_raised_in_its_place(error):
    def items():
        yield 1
        yield 2
        raise error

    found = []
    with pytest.raises(type(error)) as caught:
        for item in ahead(items()):
            found.append(item)
    assert found == [1, 2] and caught.value is error


def test_who_stops_early_leaves_no_thread_behind():
    before = threading.active_count()
    stream = ahead(iter(range(1000)))
    assert next(stream) == 0
    stream.close()
    deadline = time.monotonic() + 5
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.active_count() == before
