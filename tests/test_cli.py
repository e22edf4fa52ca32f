"""`panns-jax` as a shell sees it: exit codes, sentences, pipes, interruption."""

import contextlib
import io
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

import pytest
import recipe
import soundfile

from panns_jax.cli import TASKS, main

COMMAND = [sys.executable, "-m", "panns_jax"]


def run(*arguments: object, **environment: str) -> "subprocess.CompletedProcess[str]":
    """Runs the command in a process of its own."""
    return subprocess.run(
        [*COMMAND, *map(str, arguments)],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        timeout=120,
        encoding="utf-8",
    )


def refused(*arguments: str) -> str:
    """The one sentence with which the command, run in this process, refuses bad input."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), pytest.raises(SystemExit) as end:
        main(arguments, prog="python -m panns_jax")
    assert (end.value.code, out.getvalue()) == (2, ""), err.getvalue()
    return the_sentence(err.getvalue())


def the_sentence(shown: str) -> str:
    assert shown.count("\n") == 1, shown
    assert shown.startswith("python -m panns_jax: ")
    return shown.removeprefix("python -m panns_jax: ").rstrip("\n")


@pytest.fixture(scope="module")
def checkpoint(demo_checkpoint: Path) -> Path:
    return demo_checkpoint


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("sound") / "sound.wav"
    soundfile.write(file, recipe.waveform(1, 16000, 32000, 3)[0], 32000)
    return file


# Help


def test_help_names_every_task():
    done = run("--help")
    assert done.returncode == 0
    assert done.stderr == ""
    for name, task in TASKS.items():
        assert re.search(rf"^ +{name} +{re.escape(task.summary)}$", done.stdout, re.MULTILINE)
    assert run("-h").stdout == done.stdout


def test_without_arguments_help_is_shown_and_nothing_was_done():
    done = run()
    assert done.returncode == 2
    assert done.stdout == run("--help").stdout


def test_version_is_that_of_the_installed_package():
    done = run("--version")
    assert (done.returncode, done.stdout) == (0, f"panns_jax {version('panns_jax')}\n")


@pytest.mark.parametrize("task", ["tag", "embed"])
def test_a_task_explains_its_options(task: str):
    done = run(task, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    for option in ("FILE...", "--model", "--checkpoint"):
        assert option in done.stdout


def test_the_installed_command_is_the_module():
    command = shutil.which("panns-jax", path=str(Path(sys.executable).parent))
    if command is None:
        pytest.skip("the package is not installed here")
    done = subprocess.run([command, "--help"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("usage: panns-jax TASK")


# Bad input


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["tga"], "there is no task 'tga'; did you mean 'tag'?"),
        (["zebra"], "there is no task 'zebra'; see python -m panns_jax --help"),
        ([""], "there is no task ''; see python -m panns_jax --help"),
        (["--tag"], "there is no task '--tag'; did you mean 'tag'?"),
        (["tag"], "name at least one sound file"),
        (["tag", "nowhere.wav"], "nowhere.wav: there is no such file"),
        (["tag", "x.wav", "--top", "many"], "--top must be a whole number or all, not 'many'"),
        (["tag", "x.wav", "--top", "0"], "--top must be at least 1, not 0"),
        (["tag", "x.wav", "--top"], "--top needs a value"),
        (["tag", "x.wav", "--tpo", "3"], "unrecognized options: --tpo, 3; perhaps you meant: --top"),
        (["tag", "x.wav", "--window", "ten"], "--window must be a number or trained, not 'ten'"),
        (["tag", "x.wav", "--hop", "ten"], "--hop must be a number, not 'ten'"),
        (["tag", "x.wav", "--only", "most"], "--only must be one of 'max', 'mean', 'windows', not 'most'"),
        (["models", "--format", "xml"], "--format must be one of 'text', 'json', 'csv', not 'xml'"),
        (["tag", "x.wav", "--top", "3", "y.wav"], "there is no place for y.wav: name the files together"),
        (
            ["pack", "--csv", "x", "--audios", "x", "--out", "x", "--clip-seconds", "x"],
            "--clip-seconds must be a number, not 'x'",
        ),
        (["embed", "x.wav"], "missing from python -m panns_jax embed: --out"),
        (
            ["embed", "x.wav", "--out", "x.npy"],
            "x.npy must end in .h5, .hdf5, .npz or .parquet, or be a folder, whose name has no ending",
        ),
        (["evaluate", "--index", "x.h5"], "name what is to be scored: --checkpoint PATH, or --model NAME"),
        (["fetch"], "name at least one model, such as Cnn14"),
        (["convert"], "missing from python -m panns_jax convert: SRC"),
    ],
)
def test_bad_input_ends_in_one_sentence_that_names_it(arguments: list[str], sentence: str):
    assert refused(*arguments).startswith(sentence)


@pytest.mark.parametrize(
    "arguments",
    [
        ["pack", "--csv", "x.csv", "--audios", "x", "--out", "{}.h5"],
        ["index", "{}", "--out", "x.h5"],
        ["evaluate", "--checkpoint", "x", "--index", "{}"],
        ["train", "--workspace", "{}"],
        ["tag", "{}"],
    ],
)
def test_a_path_that_cannot_be_looked_at_is_named(capsys, arguments: list[str]):
    overlong = "x" * 300
    with pytest.raises(SystemExit) as end:
        main([argument.format(overlong) for argument in arguments])
    told = capsys.readouterr().err
    assert end.value.code == 2
    assert overlong in told and told.endswith(": File name too long\n") and told.count("\n") == 1


@pytest.mark.parametrize("environment", [{"PYTHONIOENCODING": "ascii"}, {"COLUMNS": "30"}, {"FORCE_COLOR": "1"}])
def test_the_sentence_does_not_depend_on_the_terminal(environment: dict[str, str]):
    done = run("tag", "x.wav", "--zzz", **environment)
    assert (done.returncode, done.stdout) == (2, "")
    assert the_sentence(done.stderr) == "unrecognized options: --zzz (see python -m panns_jax tag --help)"


@pytest.mark.parametrize(
    ("arguments", "option"),
    [
        (["pack", "--csv", "x.csv", "--audios", "x", "--out", "x.h5"], "clip{}seconds"),
        (["train"], "early{}stop"),
        (["train", "train"], "learning{}rate"),
    ],
)
def test_options_may_be_spelt_with_hyphens_or_underscores(arguments: list[str], option: str):
    spelt = [refused(*arguments, f"--{option.format(between)}", "never") for between in "-_"]
    for sentence in spelt:
        assert sentence.startswith(f"--{option.format('-')} must be a ")


# Pipes and interruption


@pytest.mark.skipif(os.name != "posix", reason="pipes and signals of POSIX")
@pytest.mark.parametrize("arguments", [["--help"], ["tag", "--help"]])
def test_a_reader_that_goes_early_is_no_error(arguments: list[str]):
    reading, writing = os.pipe()
    os.close(reading)
    process = subprocess.run([*COMMAND, *arguments], stdout=writing, stderr=subprocess.PIPE, timeout=60)
    os.close(writing)
    assert (process.returncode, process.stderr) == (0, b"")


@pytest.mark.skipif(os.name != "posix", reason="pipes and signals of POSIX")
def test_tags_can_be_piped_into_head(checkpoint: Path, sound: Path):
    arguments = ["tag", *[sound] * 30, "--checkpoint", checkpoint, "--format", "csv", "--top", 527]
    tag = shlex.join(map(str, [*COMMAND, *arguments]))
    done = subprocess.run(["bash", "-c", f"{tag} | head -1; echo ${{PIPESTATUS[0]}}"], capture_output=True, text=True)
    assert done.stdout == "file,rank,label,id,probability\n0\n"
    assert "Traceback" not in done.stderr
    assert "Exception" not in done.stderr


def interrupted(arguments: list[object], begun: Path | None) -> tuple[int, str, str]:
    """Presses Ctrl-C at a command that has printed something, or made a file beside `begun`."""
    process = subprocess.Popen(
        [*COMMAND, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    first = ""
    if begun is None:
        first = process.stdout.readline()
    else:
        deadline = time.monotonic() + 60
        while not list(begun.parent.glob(f"*{begun.name}.*")) and time.monotonic() < deadline:
            time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    return process.returncode, first + out, err


@pytest.mark.skipif(os.name != "posix", reason="pipes and signals of POSIX")
def test_ctrl_c_ends_in_a_word_and_130(checkpoint: Path, sound: Path):
    arguments = ["tag", *[sound] * 3000, "--checkpoint", checkpoint, "--format", "jsonl"]
    code, out, err = interrupted(arguments, None)
    assert code == 130
    assert err.endswith("interrupted\n")
    assert "Traceback" not in err
    assert 1 <= len(out.splitlines()) < 3000


@pytest.mark.skipif(os.name != "posix", reason="pipes and signals of POSIX")
def test_an_output_that_was_interrupted_is_absent_and_what_was_done_is_kept_to_go_on(
    checkpoint: Path, sound: Path, tmp_path: Path
):
    out = tmp_path / "vectors.h5"
    code, _, err = interrupted(["embed", *[sound] * 3000, "--checkpoint", checkpoint, "--out", out], out)
    assert code == 130
    assert "Traceback" not in err
    assert list(tmp_path.iterdir()) == [tmp_path / "vectors.h5.part"]
    assert "the same command goes on there" in err


@pytest.mark.skipif(os.name != "posix", reason="pipes and signals of POSIX")
def test_an_interruption_that_python_ignores_comes_again():
    program = """
import signal, time
from panns_jax.interruption import interruptions_not_lost

class Interrupted:
    def __del__(self):
        signal.raise_signal(signal.SIGINT)

with interruptions_not_lost():
    try:
        Interrupted()
        print("ignored")
        time.sleep(30)
    except KeyboardInterrupt:
        print("came again")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=20)
    assert (done.stdout, done.stderr) == ("ignored\ncame again\n", "")


@pytest.mark.skipif(os.name != "posix", reason="pipes and signals of POSIX")
def test_ctrl_c_is_answered_amidst_what_python_cannot_break_off_and_a_second_one_ends_it():
    program = """
import hashlib
from panns_jax import interruption

interruption._BREAKS_OFF_WITHIN = 0.1
with interruption.first_interruption_noted("work", "ends later"):
    print("begun", flush=True)
    hashlib.pbkdf2_hmac("sha256", b"", b"", 2_000_000_000)  # as compilation does, it hears of no signal for minutes
"""
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None and process.stderr is not None
        assert process.stdout.readline() == "begun\n"
        process.send_signal(signal.SIGINT)
        assert process.stderr.readline() == "work: ends later\n"
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    finally:
        process.kill()
        process.communicate()
    assert (process.returncode, err) == (130, "work: interrupted\n")


@pytest.mark.skipif(os.name != "posix", reason="pipes and signals of POSIX")
def test_an_interruption_amidst_an_import_comes_when_it_is_done(tmp_path: Path):
    (tmp_path / "interrupted.py").write_text("import signal\nsignal.raise_signal(signal.SIGINT)\nprint('imported')\n")
    program = """
import time
from panns_jax.interruption import imports_not_interrupted

def work():
    with imports_not_interrupted():
        try:
            import interrupted
            time.sleep(30)
        except KeyboardInterrupt:
            print("came then")

work()
try:
    del __import__("sys").modules["interrupted"]
    import interrupted
except KeyboardInterrupt:
    print("comes at once")
"""
    path = os.pathsep.join([str(tmp_path), str(Path(__file__).parents[1])])
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=20,
        env={**os.environ, "PYTHONPATH": path},
    )
    assert (done.stdout, done.stderr) == ("imported\ncame then\ncomes at once\n", "")


@pytest.mark.skipif(os.name != "posix", reason="pseudo-terminals of POSIX")
def test_results_stay_in_their_file_while_the_terminal_shows_progress(checkpoint: Path, sound: Path, tmp_path: Path):
    import pty

    main_end, terminal = pty.openpty()
    with (tmp_path / "tags.csv").open("w") as file:
        arguments = ["tag", sound, sound, "--checkpoint", checkpoint, "--format", "csv", "--top", "2"]
        process = subprocess.Popen([*COMMAND, *map(str, arguments)], stdout=file, stderr=terminal)
        os.close(terminal)
        shown = b""
        while True:
            try:
                shown += os.read(main_end, 65536)
            except OSError:  # the terminal's other end is closed
                break
        assert process.wait(60) == 0
    os.close(main_end)
    rows = (tmp_path / "tags.csv").read_text().splitlines()
    assert len(rows) == 1 + 2 * 2
    assert b"2/2" in shown
    assert b"probability" not in shown


@pytest.mark.skipif(os.name != "posix", reason="closed streams as POSIX shells leave them")
@pytest.mark.parametrize(("arguments", "code"), [("--help", 0), ("tag nowhere.wav", 2)])
def test_closed_standard_streams_are_no_fault(arguments: str, code: int):
    command = f"{shlex.join(COMMAND)} {arguments}"
    closed = subprocess.run(["bash", "-c", f"{command} <&- >&-"], stderr=subprocess.PIPE, text=True)
    assert closed.returncode == code
    assert closed.stderr.count("\n") == (code != 0) and "Traceback" not in closed.stderr
    assert subprocess.run(["bash", "-c", f"{command} <&- >&- 2>&-"]).returncode == code


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="/dev/full of Linux")
def test_an_output_without_room_is_one_sentence(checkpoint: Path, sound: Path):
    with Path("/dev/full").open("w") as full:
        command = [*COMMAND, "tag", str(sound), "--checkpoint", str(checkpoint)]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1 and "the output cannot be written" in done.stderr
