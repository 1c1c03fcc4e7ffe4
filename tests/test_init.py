"""`ltrl init`: a first spec that fits, asked for or said."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
import yaml

from ltrl.compile import prepare
from ltrl.errors import Source
from ltrl.format import format_text

LTRL = "import sys; sys.argv[0] = 'ltrl'; from ltrl.cli import main; main()"


def ltrl(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-W", "error", "-c", LTRL, *map(str, arguments)]
    return subprocess.run(argv, cwd=cwd, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)


@pytest.mark.parametrize(
    ("options", "context"),
    [
        ([], (131072, 32768)),
        (["--model", "Qwen/Qwen3-30B-A3B-Thinking-2507", "--nodes", "4"], (131072, 32768)),
        (["--model", "Qwen/Qwen3-8B", "--gpus", "4"], (32768, 8192)),
        (["--model", "Qwen/Qwen3-14B", "--gpus", "8", "--gpu-memory-gb", "40"], (32768, 8192)),
        (["--gpus", "0"], (128, 17)),
    ],
)
def test_a_first_spec_fits_and_has_its_one_form(tmp_path: Path, options: list[str], context: tuple[int, int]) -> None:
    done = ltrl("init", "specs/first.yaml", *options, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "ltrl plan specs/first.yaml --cluster first\n"), done.stderr
    assert done.stderr == "wrote specs/first.yaml\nwrote specs/clusters/first.yaml\n"
    spec, cluster = tmp_path / "specs/first.yaml", tmp_path / "specs/clusters/first.yaml"
    planned = prepare(spec, cluster=str(cluster))
    assert [d.message for d in planned.warnings if d.severity == "error"] == []
    lengths = planned.resolved.spec.model.context
    assert (lengths.prompt, lengths.response) == context
    if planned.memory:
        assert planned.memory.fits
    for file in (spec, cluster):
        text = file.read_text()
        assert format_text(Source("s", text)) == text
        line = text.splitlines()[0]
        assert line.startswith("# yaml-language-server: $schema=")
        schema = json.loads((file.parent / line.partition("=")[2]).read_text())
        jsonschema.validate(yaml.safe_load(text.replace("2e-6", "2.0e-6")), schema)


def test_nothing_is_overwritten_unasked(tmp_path: Path) -> None:
    assert ltrl("init", "specs/first.yaml", "--gpus", "0", cwd=tmp_path).returncode == 0
    before = (tmp_path / "specs/first.yaml").read_text()
    done = ltrl("init", "specs/first.yaml", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "error[LTRL076]: `specs/first.yaml` exists\nhint: `--force` overwrites it\n\n"
        "error[LTRL076]: `specs/clusters/first.yaml` exists\nhint: `--force` overwrites it\n"
    )
    assert (tmp_path / "specs/first.yaml").read_text() == before
    assert ltrl("init", "specs/first.yaml", "--force", cwd=tmp_path).returncode == 0
    assert (tmp_path / "specs/first.yaml").read_text() != before


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--model", "Qwen/Qwen3-4B-Thinkin"], "error[LTRL020]: unknown model `Qwen/Qwen3-4B-Thinkin`\n"),
        (
            ["--model", "deepseek-ai/DeepSeek-R1-0528-Qwen3-8B"],
            "error[LTRL024]: `deepseek-ai/DeepSeek-R1-0528-Qwen3-8B`",
        ),
        (["--model", "Qwen/Qwen3-32B", "--gpus", "1", "--gpu-memory-gb", "24"], "error[LTRL022]: `Qwen/Qwen3-32B` at"),
    ],
)
def test_what_cannot_be_is_said_and_nothing_written(tmp_path: Path, options: list[str], expected: str) -> None:
    done = ltrl("init", *options, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(expected)
    assert list(tmp_path.iterdir()) == []


def test_a_mistake_names_the_file_that_was_to_be_written(tmp_path: Path) -> None:
    done = ltrl("init", "d.yaml", "--model", "Qwen/Qwen3-32B", "--gpus", "1", "--gpu-memory-gb", "24", cwd=tmp_path)
    assert (done.returncode, done.stderr.splitlines()[1]) == (1, "  --> d.yaml:1:1")


def test_a_directory_with_a_config_is_a_model(tmp_path: Path) -> None:
    config = {"model_type": "qwen3", "num_hidden_layers": 28, "hidden_size": 1024, "intermediate_size": 3072}
    config |= {"num_attention_heads": 16, "num_key_value_heads": 8, "head_dim": 128, "vocab_size": 151936}
    config |= {"tie_word_embeddings": True, "max_position_embeddings": 40960, "rope_theta": 1000000, "eos_token_id": 1}
    (tmp_path / "my-model").mkdir()
    (tmp_path / "my-model" / "config.json").write_text(json.dumps(config))
    done = ltrl("init", "--model", "my-model", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "ltrl plan specs/my-model.yaml --cluster my-model\n"), done.stderr
    assert ltrl("check", "specs/my-model.yaml", "--cluster", "my-model", cwd=tmp_path).returncode == 0


def test_on_a_terminal_it_asks(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    argv = [sys.executable, "-c", LTRL, "init"]
    with subprocess.Popen(argv, cwd=tmp_path, stdin=theirs, stdout=theirs, stderr=theirs, close_fds=True) as process:
        os.close(theirs)
        os.write(ours, b"Qwen/Qwen3-8B\n4\n\n96\nmy.jsonl\n")
        shown = b""
        try:
            while part := os.read(ours, 4096):
                shown += part
        except OSError:  # the other end is closed
            pass
        assert process.wait() == 0, shown
    for question in (b"Model [", b"GPUs in each machine", b"Machines [1]", b"Memory of one GPU", b"Samples, a file"):
        assert question in shown
    spec = yaml.safe_load((tmp_path / "specs/qwen3-8b.yaml").read_text())
    assert spec["data"]["train"] == {"backend": "longtrace", "path": "my.jsonl"}
    cluster = yaml.safe_load((tmp_path / "specs/clusters/qwen3-8b.yaml").read_text())
    assert (cluster["nodes"], cluster["gpus_per_node"], cluster["gpu_memory_gb"]) == (1, 4, 96.0)
