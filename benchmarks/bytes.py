"""The same bytes from every Python: compiles the shipped specs with each interpreter and compares their manifests.

python benchmarks/bytes.py PYTHON...        # interpreters in which ltrl is installed; this one is always among them
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SPECS = ("quickstart", "qwen4b", "deepseek8b", "qwen30b_moe")
CODE = """
import hashlib, json, platform, sys, tempfile
from pathlib import Path
from ltrl.compile import compile_bundle
found = {}
with tempfile.TemporaryDirectory() as directory:
    for spec in map(Path, sys.argv[1:]):
        made, _, _ = compile_bundle(spec, out=Path(directory) / spec.stem)
        found[spec.stem] = hashlib.sha256((made.path / "ltrl.lock.json").read_bytes()).hexdigest()
print(json.dumps({"python": platform.python_version(), "hashes": found}))
"""


def main() -> None:
    specs = [str(ROOT / "specs" / f"{name}.yaml") for name in SPECS]
    rows = []
    for python in dict.fromkeys([sys.executable, *sys.argv[1:]]):
        start = time.perf_counter()
        done = subprocess.run([python, "-c", CODE, *specs], check=True, capture_output=True, text=True, cwd=ROOT)
        rows.append((json.loads(done.stdout), time.perf_counter() - start))
    first = rows[0][0]["hashes"]
    print(f"| Python | {' | '.join(SPECS)} | equal to the first | seconds |")
    print(f"|---|{'---|' * len(SPECS)}---|---|")
    for found, seconds in rows:
        hashes = " | ".join(found["hashes"][name][:12] for name in SPECS)
        print(f"| {found['python']} | {hashes} | {'yes' if found['hashes'] == first else 'NO'} | {seconds:.2f} |")
    if any(found["hashes"] != first for found, _ in rows):
        sys.exit(1)


if __name__ == "__main__":
    main()
