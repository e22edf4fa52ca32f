"""`python -m convert all`: a folder of checkpoints, converted as far as they can be."""

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pth_writer import write_checkpoint

from convert.__main__ import main
from panns_jax.models.registry import model_config
from panns_jax.pretrained import catalogue
from panns_jax.pretrained.load import load_model
from panns_jax.pretrained.rules import entries


@pytest.fixture
def convert_all(run) -> Callable[..., Any]:
    return lambda *arguments: run(lambda given: main(["all", *given]), *arguments)


def write(path: Path, value: float = 0.5) -> Path:
    config = model_config("DemoCnn").with_classes(4)
    weights = {entry.published: np.full(entry.shape, value, np.float32) for entry in entries(config)}
    return write_checkpoint(path, weights, kind="zip")


@pytest.fixture
def folder(tmp_path) -> Path:
    folder = tmp_path / "released"
    folder.mkdir()
    for name in ("a.pth", "b.PTH"):
        write(folder / name)
    (folder / "readme.txt").write_text("no checkpoint")
    return folder


def rows(table: str) -> dict[str, list[str]]:
    return {line.split()[0]: line.split() for line in table.splitlines()[2:]}


def test_every_checkpoint_is_converted_and_listed(convert_all, folder, tmp_path):
    out = tmp_path / "new" / "out"
    done = convert_all(folder, out)
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in out.iterdir()) == ["a.safetensors", "b.safetensors"]
    assert load_model(checkpoint=out / "a.safetensors").config.num_classes == 4
    table = done.stdout.splitlines()
    assert table[0].split() == ["file", "model", "hash", "parameters", "mAP", "seconds", "result"]
    row = rows(done.stdout)["a.pth"]
    parameters = sum(
        np.prod(entry.shape)
        for entry in entries(model_config("DemoCnn").with_classes(4))
        if "running" not in entry.published
    )
    assert (row[1], row[2:4], row[4], row[-1]) == ("DemoCnn", ["not", "released"], f"{parameters:,}", "converted")


def test_what_is_whole_is_skipped_and_what_is_not_is_done_again(convert_all, folder, tmp_path):
    out = tmp_path / "out"
    for name in ("c.pth", "d.pth"):
        write(folder / name)
    convert_all(folder, out)
    before = {path.name: path.stat().st_ino for path in out.iterdir()}
    damaged = out / "b.safetensors"
    damaged.write_bytes(damaged.read_bytes()[:-10])
    (out / "c.safetensors").unlink()
    write(folder / "d.pth", 0.25)  # changed since
    done = convert_all(folder, out)
    results = {name: " ".join(row[-2:]) for name, row in rows(done.stdout).items()}
    assert results.pop("a.pth") == "there already"
    assert all(result.endswith("converted") for result in results.values()) and len(results) == 3
    after = {path.name: path.stat().st_ino for path in out.iterdir()}
    assert after["a.safetensors"] == before["a.safetensors"] and after.keys() == before.keys()
    again: Any = load_model(checkpoint=out / "d.safetensors")
    assert again.fc1.bias[0] == 0.25
    assert load_model(checkpoint=damaged)


def test_files_of_any_name_are_gone_on_with(convert_all, tmp_path):
    (tmp_path / "in").mkdir()
    write(tmp_path / "in" / "spa ce é 鳥.pth")
    for result in ("converted", "there already"):
        done = convert_all(tmp_path / "in", tmp_path / "out")
        assert done.returncode == 0 and result in done.stdout, done.stdout + done.stderr


def test_a_bad_file_stops_nothing(convert_all, folder, tmp_path):
    (folder / "0.pth").write_bytes(b"RIFF")
    cut = folder / "a.pth"
    cut.write_bytes(cut.read_bytes()[:-30])
    done = convert_all(folder, tmp_path / "out")
    assert done.returncode == 1
    assert [rows(done.stdout)[name][-1] for name in ("0.pth", "a.pth", "b.PTH")] == ["FAILED", "FAILED", "converted"]
    assert "left out 2 of 3 files" in done.stderr and f"{folder / '0.pth'}: is no PyTorch checkpoint" in done.stderr
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["b.safetensors"]


def test_what_was_not_converted_from_the_file_is_replaced_only_by_force(convert_all, folder, tmp_path):
    out = tmp_path / "out"
    convert_all(folder, out)
    shutil.copy(out / "b.safetensors", out / "a.safetensors")  # of b.PTH
    (out / "b.safetensors").write_text("mine")
    done = convert_all(folder, out)
    assert done.returncode == 1
    assert f"{out / 'a.safetensors'} was converted from b.PTH; --force replaces it" in done.stderr
    assert f"{out / 'b.safetensors'} exists and is no converted checkpoint" in done.stderr
    assert (out / "b.safetensors").read_text() == "mine"
    assert convert_all(folder, out, "--force").returncode == 0
    assert convert_all(folder, out).stdout.count("there already") == 2


def test_two_files_that_would_become_one_are_told(convert_all, folder, tmp_path):
    write(folder / "b.pth")
    done = convert_all(folder, tmp_path / "out")
    assert done.returncode == 1 and "b.pth would become the same file" in done.stderr


def test_the_catalogue_is_told_of_each_file(convert_all, folder, tmp_path, monkeypatch):
    known = write(folder / "Demo_mAP=0.123.pth")
    other = write(folder / "Demo_mAP=0.456.pth", 0.75)
    unknown = write(folder / "Demo_mAP=0.789.pth")
    digest = hashlib.md5(known.read_bytes(), usedforsecurity=False).hexdigest()
    monkeypatch.setattr(
        catalogue,
        "RELEASED",
        (
            catalogue.Released("DemoCnn", other.name, md5="0" * 32),
            catalogue.Released("DemoCnn", known.name, md5=digest),
            catalogue.Released("DemoCnn", unknown.name),
        ),
    )
    for path in (folder / "a.pth", folder / "b.PTH"):
        path.unlink()
    unknown.write_bytes(write(tmp_path / "y.pth", 0.1).read_bytes())
    told = rows(convert_all(folder, tmp_path / "out").stdout)
    assert told[known.name][2:6:3] == ["as", "0.123"] and told[known.name][3] == "released"
    assert told[other.name][2] == "differs" and told[other.name][4] == "–"
    assert told[unknown.name][2:4] == ["none", "known"] and told[unknown.name][5] == "0.789"


@pytest.mark.long
def test_processes_give_the_same(convert_all, folder, tmp_path):
    done = convert_all(folder, tmp_path / "out", "--workers", 1)
    assert done.returncode == 0 and done.stdout.count("converted") == 2, done.stderr


def test_bad_folders_are_one_sentence(convert_all, folder, tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    file = tmp_path / "file"
    file.write_text("")
    for arguments, said in (
        ((tmp_path / "none", tmp_path / "out"), "there is no such folder"),
        ((empty, tmp_path / "out"), "holds no .pth file"),
        ((folder, file), "is a file; name a folder"),
        ((folder, file / "x"), "cannot make the folder"),
        ((folder,), "OUT"),
        ((folder, tmp_path / "out", "--workers", -1), "--workers"),
    ):
        done = convert_all(*arguments)
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1), (said, done.stderr)
        assert said in done.stderr
