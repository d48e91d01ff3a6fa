"""Files: whole or not at all, canonical, and disk errors in one line."""

from __future__ import annotations

import errno

import pytest

from figclip_cli.errors import InputError, MachineError, UsageError, nearest
from figclip_cli.files import (
    canonical_json,
    clear,
    explaining_disk_errors,
    read_json,
    refuse_existing,
    replacing,
    require_file,
    sha256_of_file,
    write_json,
)


def test_a_file_appears_only_when_its_block_succeeds(tmp_path):
    path = tmp_path / "deep" / "file.txt"
    with pytest.raises(RuntimeError), replacing(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert list(path.parent.iterdir()) == []
    with replacing(path) as temporary:
        temporary.write_text("whole")
        assert not path.exists()
    assert path.read_text() == "whole" and len(list(path.parent.iterdir())) == 1


def test_a_failed_replacement_leaves_the_old_file(tmp_path):
    path = tmp_path / "file.txt"
    path.write_text("old")
    with pytest.raises(MachineError), replacing(path) as temporary:
        temporary.write_text("new")
        raise OSError(errno.ENOSPC, "No space left on device")
    assert path.read_text() == "old"


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OSError(errno.ENOSPC, "x"), "no space left"),
        (OSError("Can't write data (file write failed: errno = 28, No space left on device)"), "no space left"),
        (Exception("Error while serializing: I/O error: No space left on device (os error 28)"), "no space left"),
        (PermissionError(errno.EACCES, "x"), "cannot be written"),
        (OSError(errno.EROFS, "x"), "cannot be written"),
        (OSError(errno.EIO, "x"), "cannot be written"),
    ],
)
def test_write_errors_of_any_library_are_explained(tmp_path, error, message):
    with pytest.raises(MachineError, match=message) as caught, explaining_disk_errors(tmp_path / "out"):
        raise error
    assert str(tmp_path / "out") in caught.value.message and caught.value.exit_code == 1


def test_other_errors_pass_unchanged(tmp_path):
    for error in (ValueError("x"), FileNotFoundError("y")):
        with pytest.raises(type(error)), explaining_disk_errors(tmp_path):
            raise error


def test_a_really_full_device_is_explained(tmp_path):
    full = tmp_path / "link"
    full.symlink_to("/dev/full")
    with pytest.raises(MachineError, match="no space left"), explaining_disk_errors(full), full.open("w") as file:
        file.write("x" * 100_000)


def test_json_is_canonical_and_refuses_nan(tmp_path):
    assert canonical_json({"b": 1, "a": "é"}) == '{"a": "é", "b": 1}'
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical_json(float("nan"))
    path = tmp_path / "x.json"
    write_json(path, {"b": 1, "a": 2})
    assert path.read_text() == '{\n  "a": 2,\n  "b": 1\n}\n'
    assert read_json(path, "thing") == {"a": 2, "b": 1}
    assert sha256_of_file(path) == sha256_of_file(path) != ""


def test_unreadable_json_says_where(tmp_path):
    path = tmp_path / "x.json"
    path.write_text('{"a": 1,\n"b" 2}')
    with pytest.raises(InputError, match="line 2, column 5"):
        read_json(path, "thing")
    path.write_bytes(b'"\xff"')
    with pytest.raises(InputError, match="not UTF-8"):
        read_json(path, "thing")


def test_missing_files_folders_and_existing_outputs_are_refused(tmp_path):
    with pytest.raises(InputError, match="frames file .* does not exist"):
        require_file(tmp_path / "absent", "frames file", "hint")
    with pytest.raises(InputError, match="is a folder"):
        require_file(tmp_path, "frames file", "hint")
    with pytest.raises(UsageError, match="already exists"):
        refuse_existing(tmp_path, overwrite=False)
    refuse_existing(tmp_path, overwrite=True)
    refuse_existing(tmp_path / "absent", overwrite=False)


def test_clear_removes_files_folders_and_nothing(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "b").touch()
    clear(tmp_path / "a")
    clear(tmp_path / "a")
    assert list(tmp_path.iterdir()) == []


def test_the_nearest_name_is_offered_else_all():
    assert nearest("epoch", ["epochs", "rank"]) == "did you mean 'epochs'?"
    assert nearest("zzz", ["b", "a"]) == "known: a, b"


def test_files_can_be_read_by_whom_the_umask_allows_whatever_library_wrote_them(tmp_path):

    import torch
    from safetensors.torch import save_file

    with replacing(tmp_path / "x.safetensors") as temporary:
        save_file({"x": torch.zeros(1)}, temporary)
    (tmp_path / "plain").touch()
    assert (tmp_path / "x.safetensors").stat().st_mode == (tmp_path / "plain").stat().st_mode
