"""The stage `convert` against the code of NeMo-RL that a training runs: where it looks, and what it is called with.

Its modules import Megatron, which needs a GPU to be installed: functions are taken out of their text.
"""

import ast
import importlib.util
from pathlib import Path
from typing import Any

import pytest

from ltrl_backends.nemo_rl import convert

ONE = {"pipeline_dtype": "bfloat16"}


def tree(module: str) -> ast.Module:
    found = importlib.util.find_spec("nemo_rl")
    assert found is not None
    assert found.origin is not None
    return ast.parse((Path(found.origin).parent / module).read_text())


def function(module: str, name: str) -> ast.FunctionDef:
    return next(n for n in tree(module).body if isinstance(n, ast.FunctionDef) and n.name == name)


def test_the_conversion_is_given_every_setting_that_it_reads() -> None:
    imported = function("models/megatron/community_import.py", "import_model_from_hf_name")
    assert [a.arg for a in imported.args.args][:3] == ["hf_model_name", "output_path", "megatron_config"]
    assert imported.args.kwarg is not None  # the overrides of the model's own configuration
    read = {
        ast.literal_eval(node.slice)
        for node in ast.walk(imported)
        if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name) and node.value.id == "megatron_config"
    }
    assert read == set(convert._in_one_process(ONE))


@pytest.mark.parametrize("overrides", [{}, {"rope_scaling": {"factor": 4.0}}])
def test_a_training_takes_what_it_finds_for_converted(tmp_path: Path, overrides: dict[str, Any]) -> None:
    names = ("validate_model_paths", "_get_hf_config_overrides_hash", "_canonicalize_hf_config_overrides")
    parts = [function("models/megatron/setup.py", name) for name in names]
    for part in parts:
        part.returns = None
        for argument in part.args.args:
            argument.annotation = None
    scope: dict[str, Any] = {"get_megatron_checkpoint_dir": lambda: str(tmp_path)}
    exec("import hashlib, json, os", scope)
    exec(compile(ast.Module(list(parts), []), "setup.py", "exec"), scope)
    policy = {"model_name": "org/model", "hf_config_overrides": overrides}
    _, path, is_there = scope["validate_model_paths"](policy)
    assert not is_there
    with convert._draft(Path(path)) as draft:
        made = draft / convert.ITERATION
        made.mkdir(parents=True)
        for name in ("run_config.yaml", ".metadata"):
            (made / name).touch()
        assert not scope["validate_model_paths"](policy)[2]  # until it is whole
    assert scope["validate_model_paths"](policy)[1:] == (path, True)
