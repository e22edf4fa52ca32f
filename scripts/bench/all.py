"""All benchmarks, one after the other.

    python scripts/bench/all.py [--rounds N] [--json FILE] [--figure FILE.png] [--no-tune]

They need: pip install torch onnx onnxruntime torchlibrosa librosa panns-inference matplotlib grain; openvino is
optional.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import common

# And whether it sets the allocator of its own process.
_BENCHMARKS = {
    "bench_frontend.py": True,
    "engines.py": True,
    "bench_training_step.py": True,
    "bench_tag_cold.py": False,
    "bench_rows.py": False,
    "bench_pipeline.py": True,
    "bench_index.py": False,
}


def main() -> None:
    parser = common.parser(__doc__ or "")
    parser.set_defaults(rounds=None)
    parser.add_argument("--figure", type=common.new_file, metavar="FILE", help="also draw time per 10-s clip (.png)")
    common.add_no_tune(parser)
    options = parser.parse_args()
    common.require("torch", "onnx", "onnxruntime", "torchlibrosa", "librosa", "panns_inference", "matplotlib", "grain")
    machine: dict[str, Any] = {}
    parts: dict[str, list[Any]] = {"figures": [], "ratios": []}
    code = 0
    for name, tunes in _BENCHMARKS.items():
        chosen = [] if options.rounds is None else ["--rounds", str(options.rounds)]
        chosen += ["--no-tune"] if options.no_tune and tunes else []
        chosen += ["--figure", str(options.figure)] if options.figure and name == "engines.py" else []
        with tempfile.TemporaryDirectory() as folder:
            written = Path(folder) / "figures.json"
            command = [sys.executable, str(Path(__file__).parent / name), *chosen, "--json", str(written)]
            code = subprocess.run(command).returncode or code
            if written.exists():
                contents = json.loads(written.read_text(encoding="utf-8"))
                machine[name] = contents["machine"]
                for part, values in parts.items():
                    values += contents[part]
        print()
    if options.json:
        text = json.dumps({"machine": machine["engines.py"], **parts}, indent=2, ensure_ascii=False)
        options.json.write_text(text + "\n", encoding="utf-8")
    sys.exit(code)


if __name__ == "__main__":
    main()
