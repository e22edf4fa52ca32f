"""Commands that download the model that they are named."""

import numpy as np
import pytest
from released_file import FILE

from panns_jax.cli import main
from panns_jax.pretrained.cache import cached_file


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as end:
        main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    assert isinstance(end.value.code, int)
    return end.value.code, out, err


def test_fetch_tells_file_hash_licence_and_what_to_cite(server, cache, released, capsys):
    code, out, err = run(capsys, "fetch", "DemoCnn", "--mirror", server.url)
    path = cached_file(released)
    assert code == 0
    assert out.startswith(f"{path}: DemoCnn, converted from {FILE}\n")
    assert f"{released.sha256} (as the catalogue has it)" in out
    assert "licence CC BY 4.0 (https://zenodo.org/records/3987831); cite: Q. Kong" in out
    assert FILE in err
    assert run(capsys, "fetch", "DemoCnn") == (0, out, "")


def test_fetch_does_the_others_where_one_fails(server, cache, released, capsys):
    code, out, err = run(capsys, "fetch", "Cnn14_mel32", "DemoCnn")
    assert code == 1 and "DemoCnn, converted" in out and "left out: Cnn14_mel32 needs a checkpoint" in err
    code, out, err = run(capsys, "fetch", "Cnn41")
    assert (code, out) == (2, "") and "there is no model 'Cnn41'" in err
    assert run(capsys, "fetch")[0] == 2


def test_tag_and_embed_download_the_model_that_they_are_named(server, cache, released, tmp_path, capsys):
    import h5py
    import recipe
    import soundfile

    sound = tmp_path / "sound.wav"
    soundfile.write(sound, recipe.waveform(1, 64000, 32000, 3)[0], 32000)
    code, out, err = run(capsys, "tag", sound, "--model", "DemoCnn", "--mirror", server.url)
    assert (code, len(out.splitlines())) == (0, 11) and FILE in err
    assert run(capsys, "tag", sound, "--model", "DemoCnn") == (0, out, "")
    assert run(capsys, "tag", sound, "--checkpoint", cached_file(released)) == (0, out, "")
    assert run(capsys, "embed", sound, "--model", "DemoCnn", "--out", tmp_path / "x.h5")[0] == 0
    with h5py.File(tmp_path / "x.h5") as file:
        assert file.attrs["checkpoint"] == FILE
    code, _, err = run(capsys, "tag", sound, "--checkpoint", cached_file(released), "--mirror", server.url)
    assert code == 2 and "a mirror is for the released files" in err
    assert len(server.asked) == 1


def test_evaluate_downloads_the_model_that_it_is_named(server, cache, released, tmp_path, capsys):
    import h5py

    index = tmp_path / "index.h5"
    with h5py.File(index, "w") as file:
        file["audio_name"] = np.array([b"Yx.wav"])
        file["target"] = np.ones((1, 5), bool)
        file["hdf5_path"] = np.array([b"x.h5"], "S200")
        file["index_in_hdf5"] = np.zeros(1, np.int32)
    code, out, err = run(capsys, "evaluate", "--index", index, "--model", "DemoCnn", "--mirror", server.url)
    assert (code, out) == (2, "")
    assert f"{index} tells of 5 classes, the model of the released checkpoint of 527" in err
    assert cached_file(released).exists()
