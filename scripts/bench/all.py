"""All benchmarks, one after the other.

python scripts/bench/all.py [--rounds N] [--json OUT]
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import common

BENCHMARKS = ("bench_frontend.py", "bench_forward.py", "bench_tag_cold.py")


def main() -> None:
    options = common.options(__doc__ or "", rounds=None)
    common.require_peers()
    whole: dict[str, object] = {}
    figures: list[object] = []
    with tempfile.TemporaryDirectory() as folder:
        for name in BENCHMARKS:
            written = Path(folder) / "figures.json"
            rounds = [] if options.rounds is None else ["--rounds", str(options.rounds)]
            command = [sys.executable, Path(__file__).parent / name, *rounds, "--json", written]
            code = subprocess.run(command).returncode
            if code:
                sys.exit(code)
            print()
            whole = json.loads(written.read_text())
            figures += whole["figures"]  # pyright: ignore[reportOperatorIssue]
    if options.json:
        options.json.write_text(json.dumps({**whole, "figures": figures}, indent=2) + "\n")


if __name__ == "__main__":
    main()
