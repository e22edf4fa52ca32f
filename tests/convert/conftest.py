"""Commands run to their end in the tests' own process."""

import subprocess
from collections.abc import Callable, Sequence

import pytest

Done = subprocess.CompletedProcess[str]


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str]) -> Callable[..., Done]:
    """Runs a command to its end in this process, as it would end in its own."""

    def run(command: Callable[[Sequence[str]], None], *arguments: object) -> Done:
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            command([str(argument) for argument in arguments])
        assert isinstance(ended.value.code, int)
        out, err = capfd.readouterr()
        return subprocess.CompletedProcess(command.__name__, ended.value.code, out, err)

    return run
