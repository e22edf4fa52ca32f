"""The waveforms of an index's clips."""

import os
import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import h5py
import numpy as np
import pytest

from panns_jax.data.index import list_clips, read_index
from panns_jax.data.sources import ClipSource
from panns_jax.errors import InputError

NAMES = ["Y-a.wav", None, "Yb.wav", "Yc.wav", None, "Yd.wav"]
ROWS = [0, 2, 3, 5]

LAYOUTS = {
    "contiguous, as published": {},
    "a chunk a row, as packed here": {"chunks": (1, 640), "maxshape": (None, 640)},
    "chunks of four rows": {"chunks": (4, 640)},
    "chunks of part of a row": {"chunks": (2, 100)},
    "compressed": {"chunks": (1, 640), "compression": "gzip"},
}


@pytest.fixture
def expected(write_waveforms, read_hdf5, tmp_path):
    return read_hdf5(write_waveforms(tmp_path / "expected.h5", NAMES))["waveform"][ROWS]


@pytest.mark.parametrize("options", LAYOUTS.values(), ids=LAYOUTS)
def test_rows_are_read_from_any_storage_layout(tmp_path, write_waveforms, expected, options):
    source = ClipSource(list_clips(write_waveforms(tmp_path / "x.h5", NAMES, **options)), 32000)
    assert len(source) == 4 and source.samples == 640 and source.dtype == np.int16
    np.testing.assert_array_equal(source.waveforms(np.arange(4)), expected)
    np.testing.assert_array_equal(source.waveforms(np.array([3, 0, 3])), expected[[3, 0, 3]])


def test_big_numbers_first_and_a_block_before_the_file_are_read_alike(tmp_path, write_waveforms, expected):
    path = write_waveforms(tmp_path / "x.h5", NAMES)
    with h5py.File(path) as old, h5py.File(tmp_path / "y.h5", "w", userblock_size=512) as new:
        for name in old:
            content = np.asarray(old[name])
            new[name] = content.astype(">i2") if name == "waveform" else content
    source = ClipSource(list_clips(tmp_path / "y.h5"), 32000)
    np.testing.assert_array_equal(source.waveforms(np.arange(4)), expected)


def test_a_row_that_was_never_written_is_silent(tmp_path, write_waveforms):
    path = write_waveforms(tmp_path / "x.h5", NAMES)
    with h5py.File(path, "r+") as file:
        del file["waveform"]
        file.create_dataset("waveform", (6, 640), np.int16, chunks=(1, 640))[2] = 7
    waveforms = ClipSource(list_clips(path), 32000).waveforms(np.arange(4))
    assert (waveforms == np.array([0, 7, 0, 0])[:, None]).all()


def test_an_item_is_a_clip(tmp_path, write_waveforms, expected):
    source = ClipSource(list_clips(write_waveforms(tmp_path / "x.h5", NAMES)), 32000)
    clip = source[1]
    assert clip["audio_name"] == "Yb.wav" and clip["waveform"].dtype == np.int16
    np.testing.assert_array_equal(clip["waveform"], expected[1])
    assert clip["target"].nonzero()[0].tolist() == [2] and clip["target"].shape == (527,)
    assert source[-1]["audio_name"] == "Yd.wav"
    assert [clip["audio_name"] for clip in source] == ["Y-a.wav", "Yb.wav", "Yc.wav", "Yd.wav"]
    with pytest.raises(IndexError):
        source[4]


@pytest.mark.parametrize(("rate", "stride"), [(16000, 2), (8000, 4)])
@pytest.mark.parametrize("samples", [640, 641, 643])
def test_lower_rates_take_every_second_or_fourth_sample(tmp_path, write_waveforms, read_hdf5, rate, stride, samples):
    path = write_waveforms(tmp_path / "x.h5", NAMES, samples=samples)
    source = ClipSource(list_clips(path), rate)
    expected = read_hdf5(path)["waveform"][ROWS][:, ::stride]
    assert source.samples == expected.shape[1]
    np.testing.assert_array_equal(source.waveforms(np.arange(4)), expected)


def test_files_of_different_rates_are_read_at_one(tmp_path, write_waveforms, write_published_index):
    first = write_waveforms(tmp_path / "a.h5", ["Ya.wav"], rate=32000, samples=640)
    second = write_waveforms(tmp_path / "b.h5", ["Yb.wav"], rate=16000, samples=320)
    source = ClipSource(read_index(write_published_index(tmp_path / "i.h5", [first, second])), 16000)
    assert source.waveforms(np.arange(2)).shape == (2, 320)


def test_a_file_that_does_not_tell_its_rate_has_the_published_one(tmp_path, write_waveforms):
    path = write_waveforms(tmp_path / "x.h5", NAMES, rate=None)
    assert ClipSource(list_clips(path), 16000).samples == 320


def test_the_layout_of_2019_holds_floats(tmp_path, write_waveforms, write_published_index, expected):
    waveforms = write_waveforms(tmp_path / "hdf5s" / "waveforms" / "eval.h5", NAMES, dtype=np.float32)
    index = read_index(write_published_index(tmp_path / "hdf5s" / "targets" / "eval.h5", [waveforms], old=True))
    source = ClipSource(index, 32000)
    assert source.dtype == np.float32
    np.testing.assert_allclose(source.waveforms(np.arange(4)), expected / 32767, atol=1e-7)


def test_files_of_floats_and_integers_are_read_together_as_floats(tmp_path, write_waveforms, write_published_index):
    paths = [write_waveforms(tmp_path / f"{t.__name__}.h5", NAMES, dtype=t) for t in (np.int16, np.float32)]
    source = ClipSource(read_index(write_published_index(tmp_path / "i.h5", paths)), 32000)
    waveforms = source.waveforms(np.arange(8))
    assert waveforms.dtype == np.float32
    np.testing.assert_allclose(waveforms[:4], waveforms[4:], atol=1e-7)


def test_a_pickled_source_opens_its_files_anew(tmp_path, write_waveforms, expected):
    source = ClipSource(list_clips(write_waveforms(tmp_path / "x.h5", NAMES)), 32000)
    source.waveforms(np.arange(4))
    again = pickle.loads(pickle.dumps(source))
    np.testing.assert_array_equal(again.waveforms(np.arange(4)), expected)


@pytest.mark.parametrize("options", [{}, {"chunks": (1, 640), "compression": "gzip"}], ids=["plain", "compressed"])
def test_threads_read_at_once(tmp_path, write_waveforms, expected, options):
    source = ClipSource(list_clips(write_waveforms(tmp_path / "x.h5", NAMES, **options)), 32000)
    with ThreadPoolExecutor(8) as pool:
        for clip, row in enumerate(pool.map(lambda k: source.waveforms(np.array([k % 4]))[0], range(200))):
            np.testing.assert_array_equal(row, expected[clip % 4])


def test_open_files_are_closed_with_the_source(tmp_path, write_waveforms):
    if not Path("/proc/self/fd").exists():
        pytest.skip("needs /proc")
    path = write_waveforms(tmp_path / "x.h5", NAMES)
    source = ClipSource(list_clips(path), 32000)
    source.waveforms(np.arange(4))
    opened = [link for link in Path("/proc/self/fd").iterdir() if link.exists() and link.resolve() == path]
    assert len(opened) == 1
    del source
    assert not opened[0].exists() or opened[0].resolve() != path


def test_clips_that_do_not_fit_together_are_refused(tmp_path, write_waveforms, write_published_index):
    first = write_waveforms(tmp_path / "a.h5", NAMES, samples=640)
    second = write_waveforms(tmp_path / "b.h5", NAMES, samples=641)
    index = read_index(write_published_index(tmp_path / "i.h5", [first, second]))
    with pytest.raises(
        InputError, match=r"i\.h5: lists clips of different lengths: .*a\.h5 of 640 samples and .*b\.h5 of 641"
    ):
        ClipSource(index, 32000)


@pytest.mark.parametrize(("rate", "wanted"), [(32000, 44100), (44100, 32000), (16000, 32000), (32000, 12000)])
def test_a_rate_that_does_not_divide_the_files_is_refused(tmp_path, write_waveforms, rate, wanted):
    index = list_clips(write_waveforms(tmp_path / "x.h5", NAMES, rate=rate))
    with pytest.raises(InputError, match=rf"x\.h5: holds {rate} Hz, which is no multiple of the model's {wanted} Hz"):
        ClipSource(index, wanted)


def test_an_index_that_no_longer_fits_its_waveforms_is_refused(tmp_path, write_waveforms, write_published_index):
    path = write_waveforms(tmp_path / "x.h5", NAMES)
    index = read_index(write_published_index(tmp_path / "i.h5", [path]))
    write_waveforms(path, ["Yother.wav", *NAMES[1:]])
    with pytest.raises(
        InputError, match=r"i\.h5: looks in .*x\.h5 for Y-a\.wav in row 0, which holds Yother\.wav; make"
    ):
        ClipSource(index, 32000)
    write_waveforms(path, NAMES[:4])
    with pytest.raises(InputError, match=r"i\.h5: lists rows that .*x\.h5 does not have"):
        ClipSource(index, 32000)


@pytest.mark.skipif(not hasattr(os, "preadv"), reason="where files are read by the HDF5 library they cannot be removed")
def test_a_missing_or_truncated_waveforms_file_is_named(tmp_path, write_waveforms):
    path = write_waveforms(tmp_path / "x.h5", NAMES)
    index = list_clips(path)
    source = ClipSource(index, 32000)
    with path.open("rb+") as file:
        file.truncate(2500)
    with pytest.raises(InputError, match=r"x\.h5: has become shorter than it was"):
        source.waveforms(np.arange(4))
    with pytest.raises(InputError, match=r"x\.h5: cannot be read as HDF5"):
        ClipSource(index, 32000)
    path.unlink()
    with pytest.raises(InputError, match=r"x\.h5: there is no such file"):
        ClipSource(index, 32000)
    with pytest.raises(InputError, match=r"x\.h5: cannot be read any more: No such file"):
        pickle.loads(pickle.dumps(source)).waveforms(np.arange(4))
