"""Files: whole or not at all, canonical, and disk errors in one line."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from figclip_cli.errors import InputError, MachineError, UsageError, nearest
from figclip_cli.files import (
    canonical_json,
    check_output,
    clear,
    explaining_disk_errors,
    named_files,
    read_json,
    refuse_existing,
    refuse_same_outputs,
    replacing,
    require_file,
    require_writable,
    sha256_of_file,
    shortened,
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


def test_an_input_is_never_an_output(tmp_path):
    path, link = tmp_path / "in.csv", tmp_path / "link.csv"
    path.write_text("data")
    link.symlink_to(path)
    for one in (path, link, tmp_path / "." / "in.csv"):
        for overwrite in (False, True):
            with pytest.raises(UsageError, match="is an input of this command"):
                check_output(one, overwrite=overwrite, inputs=[tmp_path / "absent", path])
    check_output(path, overwrite=True, inputs=[tmp_path / "absent"])
    with pytest.raises(UsageError, match="already exists"):
        check_output(path, overwrite=False)
    assert path.read_text() == "data"


def test_what_flags_name_is_one_list_with_what_patterns_stand_for(tmp_path):
    for name in ("a1.h5", "a2.h5"):
        (tmp_path / name).touch()
    found = named_files(None, tmp_path / "x", str(tmp_path / "y"), [tmp_path / "a*.h5"])
    assert {path.name for path in found} == {"x", "y", "a*.h5", "a1.h5", "a2.h5"}


def test_an_output_that_cannot_be_written_is_refused_and_nothing_is_left_behind(tmp_path):
    (tmp_path / "file").touch()
    for path, message in (
        (tmp_path, "is a folder, not a file"),
        (Path("/dev/null"), "is no ordinary file"),
        (tmp_path / "file" / "x.json", "file is no folder"),
        (tmp_path / "file" / "deep" / "x.json", "file is no folder"),
        (Path("/proc/x/y.json"), "/proc/x/y.json cannot be made: No such file"),
        (tmp_path / f"{'x' * 256}.json", "File name too long"),
        (tmp_path / "new" / ("é" * 128) / "x.json", "File name too long"),
    ):
        with pytest.raises((UsageError, MachineError), match=message):
            require_writable(path)
    require_writable(tmp_path / "new" / "deep" / "x.json")
    require_writable(tmp_path / "file")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_folder_that_cannot_be_made_is_explained_when_it_is_written_to():
    with pytest.raises(MachineError, match=r"/proc/x cannot be made: No such file"):
        write_json(Path("/proc/x/y.json"), {})


def test_names_too_long_are_explained_and_the_longest_can_be_written(tmp_path):
    longest, too_long = tmp_path / ("x" * 255), tmp_path / ("x" * 256)
    write_json(longest, 1)
    assert list(tmp_path.iterdir()) == [longest]
    with pytest.raises(InputError, match="cannot be read: File name too long"):
        require_file(too_long, "frames file", "hint")
    with pytest.raises(UsageError, match="cannot be made: File name too long"):
        refuse_existing(too_long, overwrite=False)


def test_a_folder_that_may_not_be_searched_is_explained(tmp_path):
    folder = tmp_path / "closed"
    folder.mkdir()
    (folder / "x").touch()
    was = os.geteuid()
    folder.chmod(0)
    if was == 0:
        os.seteuid(65534)  # nothing is forbidden to root
    try:
        with pytest.raises(InputError, match="cannot be read: Permission denied"):
            require_file(folder / "x", "frames file", "hint")
        for check in (require_writable, lambda path: refuse_existing(path, overwrite=True)):
            with pytest.raises(MachineError, match="cannot be written: Permission denied"):
                check(folder / "x")
    finally:
        os.seteuid(was)
        folder.chmod(0o700)


def test_a_long_name_is_cut_between_letters_and_keeps_apart_what_differs():
    assert shortened("short", 20) == "short"
    names = [shortened("é" * 100 + end, 50) for end in ("a", "b")]
    assert names[0] != names[1] and all(name.startswith("éééé") and len(name.encode()) <= 50 for name in names)


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


@pytest.mark.parametrize(("text", "said"), [("[" * 100_000, "nested too deep"), ("9" * 10_000, "too many digits")])
def test_json_that_python_cannot_hold_is_refused_in_one_line(tmp_path, text, said):
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(InputError, match=said):
        read_json(tmp_path / "x.json", "annotation")


def test_two_outputs_are_never_one_file(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path)
    refuse_same_outputs(results=tmp_path / "a", page=tmp_path / "b", samples=None)
    for other in (tmp_path / "x" / ".." / "a", tmp_path / "link" / "a"):
        with pytest.raises(UsageError, match="the results and the web page would both be"):
            refuse_same_outputs(results=tmp_path / "a", web_page=other)
