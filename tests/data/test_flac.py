"""Rows as FLAC: the same samples back, and no damage goes unnoticed."""

import io
import pickle
from concurrent.futures import ThreadPoolExecutor

import h5py
import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from panns_jax.data.flac import DamagedRow, decode_into, encode
from panns_jax.data.index import list_clips, read_index
from panns_jax.data.row_writer import RowFormat, write_labels
from panns_jax.data.sources import ClipSource
from panns_jax.errors import InputError

SAMPLES = 70_000
NAMES = [f"Y{number}.wav" for number in range(20)]
EXTREMES = st.sampled_from([-32768, -32767, -1, 0, 1, 32767])


def dataset(file: h5py.File, name: str) -> h5py.Dataset:
    found = file[name]
    assert isinstance(found, h5py.Dataset)
    return found


def again(row: np.ndarray, rate: int = 32000) -> np.ndarray:
    out = np.full_like(row, 77)
    decode_into(encode(row, rate), out)
    return out


@given(arrays.arrays(np.int16, st.integers(1, 300), elements=EXTREMES | st.integers(-32768, 32767)))
def test_any_samples_come_back(row):
    np.testing.assert_array_equal(again(row), row)


@given(st.integers(1, 9000), EXTREMES)
def test_a_constant_comes_back_at_any_length(length, value):
    row = np.full(length, value, np.int16)
    np.testing.assert_array_equal(again(row), row)


@pytest.mark.parametrize("rate", [1, 4000, 8000, 11025, 16000, 32000, 44100, 48000, 192000, 384000])
def test_noise_comes_back_at_any_rate_and_the_stream_tells_it(rate):
    row = np.random.default_rng(0).integers(-32768, 32768, 12345).astype(np.int16)
    np.testing.assert_array_equal(again(row, rate), row)
    assert soundfile.info(io.BytesIO(encode(row, rate))).samplerate == rate


@given(st.data())
def test_a_damaged_row_is_refused_or_comes_back_the_same(data):
    row = (8000 * np.sin(np.arange(5000) / 9)).astype(np.int16)
    stream = bytearray(encode(row, 32000))
    for _ in range(data.draw(st.integers(0, 2))):
        stream[data.draw(st.integers(0, len(stream) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    stream = stream[: data.draw(st.just(len(stream)) | st.integers(0, len(stream)))]
    out = np.zeros_like(row)
    try:
        decode_into(stream, out)
    except DamagedRow as error:
        assert str(error)
    else:
        np.testing.assert_array_equal(out, row)


@pytest.mark.parametrize("form", ["WAV", "FLAC"])
def test_another_sound_file_is_no_row(form):
    stream = io.BytesIO()
    soundfile.write(stream, np.zeros((50, 2), np.int16), 32000, format=form)
    with pytest.raises(DamagedRow, match="expected 50 samples of one channel"):
        decode_into(stream.getvalue(), np.zeros(50, np.int16))


@pytest.fixture
def rows() -> np.ndarray:
    return np.random.default_rng(1).integers(-32768, 32768, (len(NAMES), SAMPLES)).astype(np.int16)


@pytest.fixture
def flac_file(tmp_path, rows):
    """Noise, so that the rows take more than two of the chunks in which they are written."""
    from panns_jax.data.metadata import Segment

    rows_format = RowFormat(32000, SAMPLES, "flac")
    with h5py.File(tmp_path / "flac.h5", "w") as file:
        writer = rows_format.writer(file)
        for row in rows:
            writer.append(rows_format.encode(row))
        writer.finish()
        write_labels(file, [Segment(name[1:-4], 0, 10, (number,)) for number, name in enumerate(NAMES)])
    return tmp_path / "flac.h5"


def test_rows_are_read_from_chunks_that_split_them(flac_file, rows):
    with h5py.File(flac_file) as file:
        streams = dataset(file, "flac")
        assert len(streams) > 2 << 20 and streams.chunks == (1 << 20,)
    source = ClipSource(list_clips(flac_file), 32000)
    assert (source.samples, source.dtype, len(source)) == (SAMPLES, np.int16, len(NAMES))
    np.testing.assert_array_equal(source.waveforms(np.arange(len(NAMES))), rows)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(source)).waveforms(np.array([7, 0])), rows[[7, 0]])


@pytest.mark.parametrize("options", [{}, {"chunks": (999,)}, {"chunks": (999,), "compression": "gzip"}])
def test_any_storage_layout_will_do(flac_file, rows, options):
    with h5py.File(flac_file, "r+") as file:
        streams = dataset(file, "flac")[()]
        del file["flac"]
        file.create_dataset("flac", data=streams, **options)
    source = ClipSource(list_clips(flac_file), 32000)
    np.testing.assert_array_equal(source.waveforms(np.array([19, 3])), rows[[19, 3]])


def test_threads_decode_at_once(flac_file, rows):
    source = ClipSource(list_clips(flac_file), 32000)
    with ThreadPoolExecutor(8) as pool:
        for clip, row in enumerate(pool.map(lambda k: source.waveforms(np.array([k % 20]))[0], range(60))):
            np.testing.assert_array_equal(row, rows[clip % 20])


@pytest.mark.parametrize(("rate", "stride"), [(16000, 2), (8000, 4)])
def test_lower_rates_take_every_second_or_fourth_sample(flac_file, rows, rate, stride):
    source = ClipSource(list_clips(flac_file), rate)
    np.testing.assert_array_equal(source.waveforms(np.array([5])), rows[[5], ::stride])


def test_flac_and_int16_are_read_from_one_index(flac_file, rows, tmp_path, write_waveforms, write_published_index):
    plain = write_waveforms(tmp_path / "plain.h5", ["Ya.wav", "Yb.wav"], samples=SAMPLES)
    index = read_index(write_published_index(tmp_path / "i.h5", [flac_file, plain]))
    source = ClipSource(index, 32000)
    waveforms = source.waveforms(np.array([20, 4]))
    assert source.dtype == np.int16
    with h5py.File(plain) as file:
        np.testing.assert_array_equal(waveforms, np.stack([dataset(file, "waveform")[0], rows[4]]))


def test_a_damaged_row_is_named_with_file_and_clip_and_the_others_are_read(flac_file, rows):
    with h5py.File(flac_file, "r+") as file:
        place = int(dataset(file, "flac_offset")[3]) + 1000
        dataset(file, "flac")[place] ^= 255
    source = ClipSource(list_clips(flac_file), 32000)
    with pytest.raises(InputError, match=r"flac\.h5: row 3 \(Y3\.wav\) cannot be decoded as FLAC: .*; pack the file"):
        source.waveforms(np.array([2, 3]))
    np.testing.assert_array_equal(source.waveforms(np.array([2, 4])), rows[[2, 4]])


@pytest.mark.parametrize("change", ["short", "falling", "beyond", "no length"])
def test_a_file_whose_offsets_make_no_sense_is_refused(flac_file, change):
    with h5py.File(flac_file, "r+") as file:
        offsets = dataset(file, "flac_offset")[()]
        if change == "no length":
            del file.attrs["samples"]
        elif change == "short":
            offsets = offsets[:0]
        elif change == "falling":
            offsets[3] = offsets[9]
        else:
            offsets[-1] += 1
        del file["flac_offset"]
        file["flac_offset"] = offsets
    index = list_clips(flac_file) if change != "short" else None
    message = "no attribute 'samples'" if change == "no length" else "flac_offset"
    with pytest.raises(InputError, match=rf"flac\.h5: .*{message}|flac\.h5: is no waveforms file"):
        ClipSource(index, 32000) if index else list_clips(flac_file)
