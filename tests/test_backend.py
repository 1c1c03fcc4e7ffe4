"""The plugin surface: every name is there, loads when it is used, and fields mean what the strings below them say."""

from __future__ import annotations

import subprocess
import sys
from typing import Annotated

from pydantic import Field

import ltrl.backend
from ltrl.backend import Model, docstrings


def test_every_name_of_the_surface_is_there_and_a_wrong_one_is_not() -> None:
    assert [name for name in ltrl.backend.__all__ if not hasattr(ltrl.backend, name)] == []
    assert not hasattr(ltrl.backend, "Exlpains")


def test_what_few_commands_need_is_loaded_when_it_is_named() -> None:
    code = (
        "import sys, ltrl.backend as b; later = {'ltrl.backend.explaining', 'ltrl.backend.importing'}\n"
        "print(sorted(later & set(sys.modules))); b.Explains; print(sorted(later & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n['ltrl.backend.explaining']\n"


class Around(Model):
    """A model inside a module."""

    kept: int = 0
    """Said by the model
    that it is inherited from."""
    changed: int = 0
    """Said here first."""
    silent: int = 0


def test_the_string_below_a_field_is_its_meaning_inherited_or_said_anew() -> None:
    class Inner(Around):
        """A model inside a function."""

        changed: int = 1
        """Said anew."""
        field: Annotated[int, Field(description="Said in pydantic's way.")] = 0

    assert docstrings(Inner) == {
        "kept": "Said by the model\nthat it is inherited from.",
        "changed": "Said anew.",
        "field": "Said in pydantic's way.",
    }
    assert {k: v.get("description") for k, v in Inner.model_json_schema()["properties"].items()} == {
        **docstrings(Inner),
        "silent": None,
    }


def test_a_model_without_source_has_no_meanings() -> None:
    made: dict[str, type[Model]] = {}
    exec("class Typed(Model):\n    x: int = 0\n    '''Lost.'''\n", {"Model": Model, "__name__": "nowhere"}, made)
    assert docstrings(made["Typed"]) == {}
