"""An exported model: a Hugging Face directory that loads elsewhere and says where it comes from.

Converters leave traps, which are mended here: changed keys of `config.json` (rope overrides) that they do not pass on,
a tokenizer that stayed behind, a missing `generation_config.json`, stop tokens that the training ended responses at.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from ltrl.backend import ReadsFiles, create
from ltrl.checkpoints import Entry
from ltrl.errors import Code, LtrlError, fail
from ltrl.spec import Experiment

__all__ = ["Origin", "check_place", "finish", "origin", "put"]

CONFIG, GENERATION, CARD = "config.json", "generation_config.json", "README.md"

TAGS = "tags: [ltrl, reinforcement-learning, grpo, long-context]"
"""Line of the card that tells an export from any other model."""

FOLDERS = {"additional_chat_templates"}
"""Those that a tokenizer makes."""

RUN = "run.json"
"""File of every run directory."""

OF_RUN = {"attempts", "bundle", "checkpoints", "logs"}
"""What a run directory keeps for itself."""

ELSEWHERE = "choose another directory, `models/NAME` say"


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a model comes from."""

    run: str
    """Id of the run."""
    step: int
    fingerprint: str
    spec: Experiment
    text: str
    """The spec as it was compiled, with what other layers and arguments set and every default; YAML."""
    stop_token_ids: tuple[int, ...]
    """At which the training ended responses; empty where the tokenizer's own end counts alone."""
    validation: Mapping[str, float]
    project: Path


def origin(run: Path, checkpoint: Entry, *, project: Path) -> Origin:
    """What a run directory says of a checkpoint; raises LtrlError when its bundle cannot be read."""
    bundle = run / "bundle"
    try:
        resolved = json.loads((bundle / "resolved.json").read_bytes())
        spec = Experiment.model_validate_json(json.dumps(resolved["spec"]))
        sections = {name: value for name, value in resolved["spec"].items() if value is not None}
        text = yaml.safe_dump(sections, sort_keys=False, allow_unicode=True)
        fingerprint = str(resolved["fingerprint"])
        card = resolved["model_card"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise fail(Code.NOT_A_BUNDLE, f"`{bundle}` is no bundle of a run: {error}") from None
    stops = spec.rollout.stop_token_ids
    known = stops if stops is not None else () if card.get("engine_made") else card.get("stop_token_ids", ())
    return Origin(
        run.name, checkpoint.step, fingerprint, spec, text, tuple(known), dict(checkpoint.validation), project
    )


def check_place(out: Path, *, run: Path, project: Path) -> None:
    """Raises LtrlError for a place that no export may have: nothing but an earlier export is ever replaced.

    `run` is the directory of the run whose checkpoint is exported.
    """
    place = out.resolve()
    for path, what in (Path.cwd(), "the working directory"), (project, "the project"), (run, "the run"):
        if path.resolve().is_relative_to(place):
            raise fail(Code.INVALID_VALUE, f"a model cannot take the place of `{out}`: {what} is there", hint=ELSEWHERE)
    for path in (place, *place.parents):
        if (path / RUN).is_file() and (path == place or place.relative_to(path).parts[0] in OF_RUN):
            raise fail(Code.INVALID_VALUE, f"`{out}` belongs to the run `{path.name}`", hint=ELSEWHERE)
    _check_free(out)


def put(draft: Path, out: Path) -> None:
    """Puts a finished model in its place, then deletes the export that was there; raises OSError and LtrlError."""
    _check_free(out)
    if not out.exists():
        draft.rename(out)
        return
    old = out.with_name(f".{out.name}.replaced")
    shutil.rmtree(old, ignore_errors=True)
    out.rename(old)
    try:
        draft.rename(out)
    except OSError:
        old.rename(out)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _check_free(out: Path) -> None:
    if out.exists() and not (out.is_dir() and (not any(out.iterdir()) or _is_export(out))):
        message = f"`{out}` is there and is no exported model: an export replaces nothing else"
        raise fail(Code.FILE_EXISTS, message, hint=ELSEWHERE)


def _is_export(model: Path) -> bool:
    """Whether a directory has our card and no folder that exports do not have."""
    if not (model / CONFIG).is_file() or not (model / CARD).is_file():
        return False
    if any(path.is_dir() and path.name not in FOLDERS for path in model.iterdir()):
        return False
    return TAGS in (model / CARD).read_text(encoding="utf-8", errors="replace").splitlines()


def finish(model: Path, made_of: Origin, *, tokenizer: Path | None) -> tuple[str, ...]:
    """Mends what a converter left undone and writes the model card; what was mended, for a log.

    `tokenizer` is a directory with the files to put beside the weights where there are none. Raises LtrlError for a
    directory that is no model.
    """
    try:
        config = json.loads((model / CONFIG).read_bytes())
    except (OSError, ValueError) as error:
        raise fail(Code.BAD_CHECKPOINT, f"`{model / CONFIG}` cannot be read: the conversion failed? {error}") from None
    if not any(model.glob("*.safetensors")) and not any(model.glob("pytorch_model*.bin")):
        raise fail(Code.BAD_CHECKPOINT, f"`{model}` has no weights: the conversion failed?")
    mended = [*_overrides(model, config, made_of), *_tokenizer(model, tokenizer), *_generation(model, config, made_of)]
    (model / CARD).write_text(_card(made_of), encoding="utf-8")
    return tuple(mended)


def _overrides(model: Path, config: dict[str, Any], made_of: Origin) -> Iterator[str]:
    lacking = {key: value for key, value in made_of.spec.model.overrides.items() if config.get(key) != value}
    if lacking:
        _write(model / CONFIG, {**config, **lacking})
        yield f"{CONFIG}: {', '.join(f'`{key}`' for key in lacking)} as in training"


def _tokenizer(model: Path, source: Path | None) -> Iterator[str]:
    if (model / "tokenizer_config.json").is_file():
        return
    if source is None or not (source / "tokenizer_config.json").is_file():
        raise fail(
            Code.BAD_CHECKPOINT,
            f"`{model}` has no tokenizer, and none was found beside the checkpoint",
            hint="copy the files of the base model's tokenizer into it",
        )
    for path in source.iterdir():
        if path.is_file() and not (model / path.name).exists():
            (model / path.name).write_bytes(path.read_bytes())
    yield "tokenizer: put beside the weights"


def _generation(model: Path, config: dict[str, Any], made_of: Origin) -> Iterator[str]:
    """Inference servers end a response at these tokens; without them they go on to the length limit."""
    path = model / GENERATION
    found = json.loads(path.read_bytes()) if path.is_file() else {}
    known = found.get("eos_token_id", config.get("eos_token_id"))
    ends = known if isinstance(known, list) else [] if known is None else [known]
    wanted = [*ends, *(token for token in made_of.stop_token_ids if token not in ends)]
    if path.is_file() and wanted == ends:
        return
    if wanted:
        found["eos_token_id"] = wanted if len(wanted) > 1 else wanted[0]
    for name in ("pad_token_id", "bos_token_id"):
        if config.get(name) is not None:
            found.setdefault(name, config[name])
    _write(path, found)
    yield f"{GENERATION}: ends at {', '.join(map(str, wanted)) or 'nothing'}"


def _write(path: Path, data: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")


def _card(made_of: Origin) -> str:
    """The model card, as the Hugging Face hub reads it: YAML between two lines of dashes, then Markdown."""
    spec = made_of.spec
    head = [
        "---",
        "library_name: transformers",
        "pipeline_tag: text-generation",
        *([f"base_model: {json.dumps(spec.model.base)}"] if "/" in spec.model.base else []),
        TAGS,
        "---",
    ]
    facts = [
        ("base model", f"`{spec.model.base}`" + (f" at `{spec.model.revision}`" if spec.model.revision else "")),
        ("run", f"`{made_of.run}`, step {made_of.step} of {spec.algorithm.steps}"),
        ("fingerprint", f"`{made_of.fingerprint}`"),
        ("reward", f"`{spec.reward.backend}`"),
        ("engine", f"`{spec.engine.name}`"),
        *((f"data `{name}`", text) for name, text in _data(made_of)),
    ]
    figures = sorted(made_of.validation.items())
    results = ["| validation | |", "|---|---|", *(f"| {name} | {value:.4g} |" for name, value in figures)]
    return "\n".join(
        [
            *head,
            "",
            f"# {spec.name}",
            "",
            *([spec.description, ""] if spec.description else []),
            "Trained like [LongTraceRL](https://arxiv.org/abs/2605.31584) with ltrl.",
            "",
            "| | |",
            "|---|---|",
            *(f"| {name} | {text} |" for name, text in facts),
            "",
            "## Results",
            "",
            *(results if figures else [f"Nothing was validated at step {made_of.step}."]),
            "",
            "## Use",
            "",
            "```python",
            "from transformers import AutoModelForCausalLM, AutoTokenizer",
            "",
            'tokenizer = AutoTokenizer.from_pretrained("DIRECTORY")',
            'model = AutoModelForCausalLM.from_pretrained("DIRECTORY")',
            'chat = [{"role": "user", "content": "…"}]',
            'form = {"add_generation_prompt": True, "return_dict": True, "return_tensors": "pt"}',
            "inputs = tokenizer.apply_chat_template(chat, **form)",
            "print(tokenizer.decode(model.generate(**inputs, max_new_tokens=512)[0]))",
            "```",
            "",
            "## Specification",
            "",
            "Every value that the run had, its defaults too.",
            "",
            "```yaml",
            made_of.text.rstrip(),
            "```",
            "",
        ]
    )


def _data(made_of: Origin) -> Iterator[tuple[str, str]]:
    """Every set of the run with what identifies it: the hash of its files, or of what it is generated from."""
    for name, section in (("train", made_of.spec.data.train), *made_of.spec.data.validation.items()):
        try:
            backend = create(section)
        except LtrlError:  # not installed where the export runs
            backend = None
        files = [made_of.project / path for path in backend.files] if isinstance(backend, ReadsFiles) else []
        for path in files:
            if path.is_file():
                with path.open("rb") as file:
                    yield name, f"`{path.name}`, sha256 `{hashlib.file_digest(file, 'sha256').hexdigest()}`"
            else:
                yield name, f"`{path.name}`, not on the machine that exported"
        if not files:
            text = json.dumps(section.model_dump(mode="json"), sort_keys=True)
            yield name, f"`{section.backend}`, sha256 of its options `{hashlib.sha256(text.encode()).hexdigest()}`"
