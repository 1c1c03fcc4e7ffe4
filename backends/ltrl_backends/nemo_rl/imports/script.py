"""From a launch script of slime, as LongTraceRL's are, to a spec."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ltrl.backend import Fidelity, Imported, Importing, ImportRow
from ltrl.errors import Code, Diagnostic, LtrlError, Position
from ltrl_backends.nemo_rl.fidelity import ROWS
from ltrl_backends.nemo_rl.imports.by_hand import BY_HAND, field_path
from ltrl_backends.nemo_rl.imports.defects import covered, defects, is_secret, runtime_environment, secrets
from ltrl_backends.nemo_rl.imports.flags import FLAGS, IGNORED, MODEL_FLAGS, Flag, number
from ltrl_backends.nemo_rl.imports.uses import Use, is_async, is_decided, program, uses_of

if TYPE_CHECKING:
    from ltrl.catalog import ModelCard
    from ltrl.script import Script

__all__ = ["Reader", "import_script"]


def import_script(script: Script, importing: Importing) -> Imported | None:
    """The run that a script starts; None when no command of it is slime's training program."""
    commands = [c for c in script.commands if program(c) is not None]
    if not commands:
        return None
    reader = Reader(script, uses_of(commands[-1]), importing)
    if is_async(commands[-1]):
        reader.note(
            Use("train_async.py", (), commands[-1].position), "algorithm.asynchronous", {"max_age_steps": 1},
            "grpo.async_grpo.enabled", "closest", "one step of age, as slime's; it needs `rollout.nodes`",
        )  # fmt: skip
    for earlier in commands[:-1]:
        message = f"this training is not imported: the script starts {len(commands)}, and the last one is"
        hint = "import the trainings from scripts of their own"
        reader.diagnostics.append(Diagnostic(Code.NOT_IMPORTED, message, earlier.position, hint, "warning"))
    return reader.imported()


class Reader:
    """Fills in fields and rows, flag by flag."""

    def __init__(self, script: Script, uses: list[Use], importing: Importing) -> None:
        self.script, self.uses, self.importing = script, uses, importing
        self.fields: dict[tuple[str, ...], Any] = {}
        self.rows: list[ImportRow] = []
        self.diagnostics: list[Diagnostic] = [*script.problems]
        self.last = {use.name: use for use in uses}
        """A flag that is given twice has its last value, as argparse has it."""

    def has(self, name: str) -> bool:
        """Whether the script gives a flag."""
        return name in self.last

    def number(self, name: str, default: Any = None) -> Any:
        """The number behind a flag; the default for a flag that is absent or whose word is none."""
        value = number(self.last[name].value) if name in self.last else default
        return value if isinstance(value, int | float) else default

    def note(  # noqa: PLR0917  # a row of the table, in its columns
        self, use: Use, field: str = "", value: Any = None, key: str = "", grade: Fidelity = "exact", note: str = ""
    ) -> None:
        """Adds a row and, for a field with a value, the value."""
        self.rows.append(ImportRow(use.text, grade, field, value, key, note, use.position))
        if field and value is not None and grade != "not expressible":
            self.fields[field_path(field)] = value

    def imported(self) -> Imported:
        """Everything, read in the order in which it depends on each other."""
        for use in self.uses:
            self.read(use)
        self.absent()
        self.batches()
        self.lengths()
        self.reward()
        self.cluster()
        for name, value, position in runtime_environment(self.script, self.diagnostics.append):
            self.environment(name, value, position)
        card = self.card()
        self.shape(card)
        listed = {id(row.position) for row in self.rows}
        for use in (use for use in self.uses if id(use.position) not in listed):
            self.unknown(use, f"`{use.name}` is not imported beside these other flags")
        self.implied()
        prompt, response = (self.fields.get(("model", "context", name)) for name in ("prompt", "response"))
        length = prompt + response if prompt and response else None
        found = (*self.diagnostics, *defects(self.script, self.last, self.uses, card, length))
        order = {id(use.position): i for i, use in enumerate(self.uses)}
        rows = sorted(self.with_rivals(), key=lambda r: order.get(id(r.position), len(order)))
        return self.without_secrets(Imported(self.fields, tuple(rows), found))

    def with_rivals(self) -> Iterator[ImportRow]:
        """The rows; none is exact for a flag that another part of the script sets otherwise."""
        rivals: dict[int, Use] = {}
        for use in self.uses:
            last = self.last[use.name]
            if not is_decided(use, last) and use.text != last.text:
                rivals[id(last.position)] = use
        for row in self.rows:
            rival = rivals.get(id(row.position))
            if rival and row.grade == "exact":
                note = f"the script decides when it runs; line {rival.position.line} says `{rival.text}`"
                yield replace(row, grade="closest", note=note)
            else:
                yield row

    def without_secrets(self, imported: Imported) -> Imported:
        """The same with stars for secrets, in the lines of the script that are shown too."""
        hidden = secrets(self.script, self.uses)
        if not hidden:
            return imported

        def place(position: Position | None) -> Position | None:
            if position is None:
                return None
            return replace(position, source=replace(position.source, text=covered(position.source.text, hidden)))

        rows = (replace(r, setting=covered(r.setting, hidden), position=place(r.position)) for r in imported.rows)
        found = (
            replace(d, message=covered(d.message, hidden), position=place(d.position),
                    related=tuple((what, place(where) or where) for what, where in d.related))
            for d in imported.diagnostics
        )  # fmt: skip
        return replace(imported, rows=tuple(rows), diagnostics=tuple(found))

    def read(self, use: Use) -> None:
        """One flag; those that are read with others come later."""
        if not use.name.startswith("--"):
            self.unknown(use, f"`{use.text}` is known only when the script runs")
        elif use is not self.last[use.name]:
            last = self.last[use.name]
            if is_decided(use, last) or use.text == last.text:
                self.note(use, grade="not expressible", note=f"given again at line {last.position.line}")
            else:
                note = f"the script decides when it runs; `{last.text}` was taken"
                self.note(use, grade="closest", note=note)
        elif use.unknown and use.name not in BY_HAND:
            names = ", ".join(f"`{name}`" for name in use.unknown)
            flag = FLAGS.get(use.name, Flag())
            self.unknown(use, f"{names} is known only when the script runs", flag.field)
        elif use.name in BY_HAND:
            BY_HAND[use.name](self, use)
        elif use.name in _LATER or use.name in MODEL_FLAGS:
            pass
        elif use.name in FLAGS:
            self.simple(use, FLAGS[use.name])
        elif use.name in IGNORED:
            self.note(use, grade="not expressible", note=IGNORED[use.name])
        elif use.name.startswith(("--sglang-", "--use-slime-router", "--slime-router")):
            self.note(use, grade="not expressible", note="an option of SGLang; vLLM samples here")
        else:
            self.unknown(use, f"the flag `{use.name}` is not known here")

    def simple(self, use: Use, flag: Flag) -> None:
        """A flag that stands for one field, or for none."""
        if flag.only is not None:
            same = number(use.value) == number(flag.only)
            grade: Fidelity = "exact" if same else "not expressible"
            self.note(use, flag.field, None, flag.key, grade, flag.note if same else f"only {flag.only}")
        else:
            value = flag.takes(use.value) if flag.takes else None
            self.note(use, flag.field, value, flag.key, flag.grade, flag.note)

    def unknown(self, use: Use, why: str, field: str = "") -> None:
        """A flag that is not imported, and a warning that says so."""
        self.rows.append(ImportRow(use.text, "not expressible", field, note=why, position=use.position))
        hint = f"set `{field}` by hand" if field else "see whether the run depends on it"
        self.diagnostics.append(Diagnostic(Code.NOT_IMPORTED, why, use.position, hint, "warning"))

    def later(self, *names: str) -> Iterator[tuple[Use, Any]]:
        """The uses of flags that are read together, with their numbers."""
        for use in (self.last[name] for name in names if name in self.last and not self.last[name].unknown):
            value = self.number(use.name)
            if value is None or value <= 0:
                self.unknown(use, f"`{use.text}` is no number above 0")
            else:
                yield use, value

    def absent(self) -> None:
        """What slime and Megatron do where the script says nothing, if that is not what a spec does."""
        for name, (field, key, value, why) in _ABSENT.items():
            if not self.has(name) and field_path(field) not in self.fields:
                self.fields[field_path(field)] = value
                self.rows.append(ImportRow(f"(no {name})", "exact", field, value, key, why))
        if not self.has("--eps-clip-high") and self.has("--eps-clip"):
            value, why = self.number("--eps-clip"), "slime's upper bound is the lower one"
            self.fields[("algorithm", "clip", "high")] = value
            key = "loss_fn.ratio_clip_max"
            self.rows.append(ImportRow("(no --eps-clip-high)", "exact", "algorithm.clip.high", value, key, why))

    def batches(self) -> None:
        """How many responses an update has."""
        samples = self.number("--rollout-batch-size", 0) * self.number("--n-samples-per-prompt", 0)
        field, key = "algorithm.batch_size", "policy.train_global_batch_size"
        for use, size in self.later("--global-batch-size"):
            self.note(use, field, None if size == samples else size, key, "exact")
        for use, count in self.later("--num-steps-per-rollout"):
            self.note(use, field, None if count == 1 or not samples else samples // count, key)
        for use, drawn in self.later("--over-sampling-batch-size"):
            prompts = self.number("--rollout-batch-size", 0)
            if self.has("--dynamic-sampling-filter-path") and prompts:
                factor = drawn / prompts
                field = "algorithm.dynamic_sampling.batch_multiplier"
                self.note(use, field, factor, "grpo.batch_multiplier")
            else:
                self.note(use, grade="not expressible", note="only with dynamic sampling")

    def lengths(self) -> None:
        """Longest prompt and response."""
        response = self.number("--rollout-max-response-len")
        key = "policy.max_total_sequence_length"
        for use, total in self.later("--rollout-max-context-len"):
            if self.has("--rollout-max-prompt-len"):
                self.note(use, "model.context.total", total, key)
            elif response is not None:
                note = (
                    f"{use.value} - {response} is the longest prompt here; slime keeps longer prompts and gives them a "
                    "shorter response, ltrl leaves them out and counts them"
                )
                self.note(use, "model.context.prompt", total - response, key, "closest", note)
            else:
                self.note(use, "model.context.total", total, key)
        for use, prompt in self.later("--rollout-max-prompt-len"):
            self.note(use, "model.context.prompt", prompt, "data.max_input_seq_length")

    def reward(self) -> None:
        """Which backend rewards, and by what judge."""
        block = "env.ltrl_train.reward"
        uses = {name: self.last[name] for name in self.last if "rubric" in name}
        kind = self.last.get("--rm-type")
        if kind is None:
            source = self.last.get("--source-config-path") or self.last.get("--custom-rm-path")
            where = source.position if source else self.uses[0].position
            message = "which judge decides whether an answer is right stands outside of this script"
            hint = (
                "the spec takes the judge `exact`, which compares with the label; another one: `--set "
                "reward.judge='{backend: openai, base_url: http://HOST/v1, model: NAME}'`"
            )
            self.diagnostics.append(Diagnostic(Code.NOT_IMPORTED, message, where, hint, "warning"))
            self.fields[("reward", "judge")] = "exact"
        if not uses:
            self.fields[("reward", "backend")] = "outcome"
            if kind:
                self.fields[("reward", "judge")] = "exact"
                note = "the judge `exact` compares answer and label by its own rule"
                self.note(kind, "reward.judge", "exact", f"{block}.judge", "closest", note)
            return
        self.fields[("reward", "backend")] = "rubric"
        scope = "all"
        if "--rubric-only-negative" in uses:  # slime looks at it first
            scope = "negative-only"
        elif "--rubric-only-positive" in uses:
            scope = "positive-only"
        reads = [name for name in ("content", "reasoning-content") if f"--rubric-use-{name}" in uses]
        text = "both" if len(reads) == 2 else "reasoning" if reads == ["reasoning-content"] else "answer"
        normalisation = "group-max" if "--normalize-rubric-reward" in uses else "none"
        for name, use in uses.items():
            match name:
                case "--rubric-only-negative" | "--rubric-only-positive":
                    self.note(use, "reward.scope", scope, f"{block}.scope")
                case "--normalize-rubric-reward":
                    self.note(use, "reward.normalisation", normalisation, f"{block}.normalisation")
                case "--rubric-use-content" | "--rubric-use-reasoning-content":
                    self.note(use, "reward.text", text, f"{block}.text")
                case "--rubric-reward-ratio":
                    pass  # read as a flag of its own
                case _:
                    self.unknown(use, f"the flag `{name}` is not known here")
        self.fields[("reward", "scope")] = scope
        self.fields[("reward", "normalisation")] = normalisation

    def cluster(self) -> None:
        """Machines, and who of them only generates."""
        nodes, gpus = self.number("--actor-num-nodes", 1), self.number("--actor-num-gpus-per-node", 8)
        rollout = self.number("--rollout-num-gpus", 0)
        colocated = self.has("--colocate") or not rollout
        apart = 0 if colocated else -(-rollout // max(1, gpus))
        self.fields[("cluster", "executor")] = "slurm"
        self.fields[("cluster", "nodes")] = nodes + apart
        self.fields[("cluster", "gpus_per_node")] = gpus
        for use, _ in self.later("--actor-num-nodes"):
            self.note(use, "cluster.nodes", nodes + apart, "cluster.num_nodes")
        for use, count in self.later("--actor-num-gpus-per-node", "--num-gpus-per-node"):
            self.note(use, "cluster.gpus_per_node", count, "cluster.gpus_per_node")
        for use, _ in self.later("--rollout-num-gpus"):
            key = "policy.generation.colocated.resources.num_nodes"
            if apart:
                self.note(use, "rollout.nodes", apart, key)
            else:
                self.note(use, "rollout.nodes", None, key, "exact", "training and sampling take turns on the same GPUs")

    def environment(self, name: str, value: str, position: Position) -> None:
        """A variable of the job's environment."""
        row = f"{name}={value}"
        if is_secret(name, value):
            message = f"`{name}` is a secret, written out in a script"
            self.diagnostics.append(Diagnostic(Code.SCRIPT_DEFECT, message, position, f"`${{env:{name}}}`", "warning"))
        if name == "PYTHONPATH" or name.startswith(("RAY_", "MASTER_")):
            note = "the job brings its own modules" if name == "PYTHONPATH" else "the job starts its own Ray"
            self.rows.append(ImportRow(row, "not expressible", note=note, position=position))
            return
        if "$" in value or is_secret(name, value):
            value = f"${{env:{name}}}"
        self.fields[("cluster", "environment", name)] = value
        self.rows.append(ImportRow(row, "exact", f"cluster.environment.{name}", value, position=position))

    def card(self) -> ModelCard | None:
        """The card of the model, if it is known here."""
        base = self.fields.get(("model", "base"))
        try:
            return self.importing.resolve({("model", "base"): base}).card if base else None
        except LtrlError:  # `ltrl import` says so when it checks the spec
            return None

    def shape(self, card: ModelCard | None) -> None:
        """The flags of the model's shape: here its own `config.json` decides."""
        for use in (u for u in self.uses if u.name in MODEL_FLAGS and u is self.last[u.name]):
            attribute = MODEL_FLAGS[use.name]
            grade: Fidelity = "exact"
            note = "the model's own config.json decides"
            if card is not None and attribute:
                own = not card.tied_embeddings if attribute == "untied" else getattr(card, attribute)
                same = own == (number(use.value) if use.words else True)
                grade = "exact" if same else "closest"
                note = "as the model's own config.json" if same else f"the model's own config.json says {own}"
            self.note(use, "model.base", None, "policy.model_name", grade, note)

    def implied(self) -> None:
        """What the script leaves to slime's defaults, from the table of fidelity."""
        is_moe = self.has("--num-experts")
        is_rubric = self.fields.get(("reward", "backend")) == "rubric"
        for row in ROWS:
            if not row.flag.startswith("(") or row.grade == "exact" or "--" in row.flag:
                continue
            of_judge = row.field.startswith("reward.") or "judge" in row.flag
            if (row.field == "engine.train_router" and not is_moe) or (of_judge and not is_rubric):
                continue
            self.rows.append(ImportRow(row.flag, row.grade, row.field, None, row.key, row.note))


_ABSENT: Mapping[str, tuple[str, str, Any, str]] = {
    "--calculate-per-token-loss": (
        "algorithm.loss_aggregation", "loss_fn.token_level_loss", "sequence", "slime takes the mean of each response",
    ),
    "--rollout-shuffle": ("data.shuffle", "data.shuffle", False, "slime keeps the order of the data"),
    "--recompute-granularity": (
        "engine.recompute", "policy.megatron_cfg.recompute_granularity", "none", "Megatron keeps all activations",
    ),
    "--weight-decay": ("optimizer.weight_decay", "policy.megatron_cfg.optimizer.weight_decay", 0.01, "Megatron's"),
    "--adam-beta2": ("optimizer.betas", "policy.megatron_cfg.optimizer.adam_beta2", [0.9, 0.999], "Megatron's"),
    "--lr-decay-style": ("optimizer.schedule", "policy.megatron_cfg.scheduler.lr_decay_style", "linear", "Megatron's"),
}  # fmt: skip
"""Defaults of slime and Megatron that are not ours: flag that would say so, field, key, value and whose it is."""

_LATER = {
    "--global-batch-size", "--num-steps-per-rollout", "--over-sampling-batch-size", "--rollout-max-context-len",
    "--rollout-max-prompt-len", "--rm-type", "--actor-num-nodes", "--actor-num-gpus-per-node", "--num-gpus-per-node",
    "--rollout-num-gpus", "--rubric-only-positive", "--rubric-only-negative", "--normalize-rubric-reward",
    "--rubric-use-content", "--rubric-use-reasoning-content", "--custom-tis-function-path",
}  # fmt: skip
"""Flags that are read with others after all are known."""
