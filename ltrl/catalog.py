"""What is known of a model without its weights: the shape, the positions and the stop tokens of its `config.json`.

A card comes from a local directory, from the bundled `catalog.yaml`, or, only when asked for with `fetch`, from the
Hugging Face hub. Parameter counts are exact: they equal the totals of the published safetensors files.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path

import yaml

from ltrl.errors import Code, LtrlError, Position, fail, unreadable

KEPT = "models"
"""Directory of a project with the configurations of models that `fetch` has looked up."""
CONFIGURATION = ("config.json", "generation_config.json", "tokenizer_config.json")
"""Files that a card is made of; the first must be there."""
HUB_ID = r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*"

__all__ = ["LatentAttention", "ModelCard", "card_from_config", "fetch", "find", "names"]


@dataclass(frozen=True, slots=True)
class LatentAttention:
    """Sizes of DeepSeek's multi-head latent attention (arXiv:2405.04434)."""

    query_rank: int | None
    """Width of the compressed queries; none when queries are projected directly."""
    kv_rank: int
    """Width of the compressed keys and values, which is what a cache holds besides the rotary key."""
    rope_head_dim: int
    """Part of a query or key head that is rotated; all heads share one such key."""
    value_head_dim: int
    """Width of a value head."""


@dataclass(frozen=True, slots=True)
class ModelCard:
    """The shape of a decoder-only transformer with gated feed-forward layers, and how it is used."""

    name: str
    """Hugging Face id, directory or engine-made name, as the user wrote it."""
    architecture: str
    """Class that `config.json` names: `Qwen3ForCausalLM`."""
    num_layers: int
    hidden_size: int
    ffn_size: int
    """Inner width of a dense feed-forward layer."""
    num_heads: int
    """Query heads."""
    num_kv_heads: int
    """Key and value heads."""
    head_dim: int
    """Width of a query or key head."""
    vocab_size: int
    """Rows of the embedding matrix, including unused ones."""
    tied_embeddings: bool
    """The output layer is the embedding matrix."""
    qk_norm: bool
    """Queries and keys are normalised per head."""
    attention_bias: bool
    """The query, key and value projections have a bias."""
    max_positions: int
    """Longest sequence, in tokens, that the published configuration allows."""
    rope_theta: float
    """Base of the rotary embedding."""
    rope_scaling: Mapping[str, object] | None
    """Scaling of the rotary embedding, with `rope_type`; none for plain RoPE."""
    stop_token_ids: tuple[int, ...]
    """Tokens that end a response."""
    chat_format: str
    """How reasoning and answer are told apart: `qwen3`, `deepseek-r1` or `plain`."""
    num_experts: int = 0
    """Routed experts of a mixture layer; 0 for a dense model."""
    experts_per_token: int = 0
    expert_ffn_size: int = 0
    """Inner width of a routed expert."""
    shared_expert_ffn_size: int = 0
    """Inner width of all shared experts together."""
    num_dense_layers: int = 0
    """Layers of a mixture-of-experts model that are dense; 0 for a dense model, where all are."""
    output_bias: bool = False
    """The attention's output projection has a bias."""
    mlp_bias: bool = False
    """Dense feed-forward layers have biases."""
    shared_expert_gate: bool = False
    """A learned gate scales the shared expert (Qwen2-MoE)."""
    router_bias: bool = False
    """The router has a balancing bias (DeepSeek-V3)."""
    latent: LatentAttention | None = None
    """Sizes of latent attention; none for grouped-query attention."""
    engine_made: bool = False
    """The local engine makes this model; there is nothing to download."""

    @property
    def num_parameters(self) -> int:
        """Distinct weights: tied embeddings count once, a multi-token-prediction layer not at all."""
        return self._total(self.num_experts)

    @property
    def num_active_parameters(self) -> int:
        """Weights that one token passes through, embeddings included."""
        return self._total(self.experts_per_token)

    @property
    def num_moe_layers(self) -> int:
        """Layers whose feed-forward part is a mixture of experts."""
        return self.num_layers - self.num_dense_layers if self.num_experts else 0

    @property
    def attention_parameters(self) -> int:
        """Projections of one layer's attention, with their biases; what tensor parallelism splits."""
        if self.latent is not None:
            return self._latent_projections(self.latent)
        queries, keys = self.num_heads * self.head_dim, self.num_kv_heads * self.head_dim
        biases = (queries + 2 * keys) * self.attention_bias + self.hidden_size * self.output_bias
        return self.hidden_size * (2 * queries + 2 * keys) + biases

    @property
    def norm_parameters(self) -> int:
        """Normalisation weights of one layer; every tensor-parallel rank has them all."""
        inside = 2 * self.head_dim if self.qk_norm else 0
        if self.latent is not None:
            inside = (self.latent.query_rank or 0) + self.latent.kv_rank
        return 2 * self.hidden_size + inside

    @property
    def mlp_parameters(self) -> int:
        """One dense feed-forward layer."""
        return 3 * self.hidden_size * self.ffn_size + (2 * self.ffn_size + self.hidden_size) * self.mlp_bias

    @property
    def expert_parameters(self) -> int:
        """One routed expert."""
        return 3 * self.hidden_size * self.expert_ffn_size

    @property
    def shared_expert_parameters(self) -> int:
        """The shared experts of one mixture layer."""
        return 3 * self.hidden_size * self.shared_expert_ffn_size

    @property
    def router_parameters(self) -> int:
        """Router and shared-expert gate of one mixture layer; every tensor-parallel rank has them all."""
        router = self.num_experts * (self.hidden_size + self.router_bias)
        return router + self.hidden_size * self.shared_expert_gate if self.num_experts else 0

    @property
    def embedding_parameters(self) -> int:
        """The embedding matrix; an untied output layer is as large again."""
        return self.vocab_size * self.hidden_size

    def _total(self, experts: int) -> int:
        layer = self.attention_parameters + self.norm_parameters
        mixture = self.router_parameters + self.shared_expert_parameters + experts * self.expert_parameters
        dense_layers = self.num_layers - self.num_moe_layers
        matrices = 1 if self.tied_embeddings else 2
        return (
            self.num_layers * layer
            + dense_layers * self.mlp_parameters
            + self.num_moe_layers * mixture
            + matrices * self.embedding_parameters
            + self.hidden_size
        )

    def _latent_projections(self, latent: LatentAttention) -> int:
        heads, nope = self.num_heads, self.head_dim - latent.rope_head_dim
        if latent.query_rank is None:
            queries = self.hidden_size * heads * self.head_dim
        else:
            queries = latent.query_rank * (self.hidden_size + heads * self.head_dim)
        down = self.hidden_size * (latent.kv_rank + latent.rope_head_dim)
        up = latent.kv_rank * heads * (nope + latent.value_head_dim)
        return queries + down + up + heads * latent.value_head_dim * self.hidden_size


_ARCHITECTURES = {
    "llama": "LlamaForCausalLM",
    "mistral": "MistralForCausalLM",
    "mixtral": "MixtralForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "qwen2_moe": "Qwen2MoeForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
    "qwen3_moe": "Qwen3MoeForCausalLM",
    "deepseek_v2": "DeepseekV2ForCausalLM",
    "deepseek_v3": "DeepseekV3ForCausalLM",
}
"""Class of each `model_type` that a card can be read from."""


def card_from_config(
    config: Mapping[str, object],
    name: str,
    *,
    chat_format: str | None = None,
    engine_made: bool = False,
    position: Position | None = None,
) -> ModelCard:
    """The card of a model from its `config.json`.

    Absent keys have the defaults of the model's configuration class in transformers. Without `chat_format` it is told
    from the name and the family. Raises UNKNOWN_MODEL for a family that is not supported and for unusable values.
    """
    keys = _Keys(config, name, position)
    family = keys.text("model_type")
    architecture = _ARCHITECTURES.get(family)
    if architecture is None:
        known = ", ".join(sorted(_ARCHITECTURES))
        raise fail(
            Code.UNKNOWN_MODEL,
            f"`{name}` is a `{family}` model, which ltrl does not know",
            position,
            hint=f"the families it knows are {known}",
        )
    hidden, heads = keys.count("hidden_size"), keys.count("num_attention_heads")
    latent = _latent(keys) if family.startswith("deepseek") else None
    head_dim = keys.count("head_dim", 128 if family == "qwen3" else hidden // heads)
    if latent is not None:
        head_dim = keys.count("qk_nope_head_dim") + latent.rope_head_dim
    theta, scaling = _rope(keys)
    bias = keys.flag("attention_bias")
    if latent is not None and bias:
        raise keys.unusable("attention_bias", "unsupported with latent attention")
    experts, dense_layers = _experts(keys, family)
    expert_ffn, shared_ffn = _expert_sizes(keys, family) if experts else (0, 0)
    return ModelCard(
        name=name,
        architecture=architecture,
        num_layers=keys.count("num_hidden_layers"),
        hidden_size=hidden,
        ffn_size=keys.count("intermediate_size"),
        num_heads=heads,
        num_kv_heads=keys.count("num_key_value_heads", heads),
        head_dim=head_dim,
        vocab_size=keys.count("vocab_size"),
        tied_embeddings=keys.flag("tie_word_embeddings"),
        qk_norm=family in ("qwen3", "qwen3_moe"),
        attention_bias=keys.flag("qkv_bias", True) if family in ("qwen2", "qwen2_moe") else bias,
        max_positions=keys.count("max_position_embeddings"),
        rope_theta=theta,
        rope_scaling=scaling,
        stop_token_ids=keys.tokens("eos_token_id"),
        chat_format=chat_format or _chat_format(name, family),
        num_experts=experts,
        experts_per_token=keys.count("num_experts_per_tok") if experts else 0,
        expert_ffn_size=expert_ffn,
        shared_expert_ffn_size=shared_ffn,
        num_dense_layers=dense_layers,
        output_bias=bias and family in ("llama", "qwen3", "qwen3_moe"),
        mlp_bias=family == "llama" and keys.flag("mlp_bias"),
        shared_expert_gate=family == "qwen2_moe" and shared_ffn > 0,
        router_bias=family == "deepseek_v3" and experts > 0,
        latent=latent,
        engine_made=engine_made,
    )


def find(
    base: str,
    *,
    project: Path,
    overrides: Mapping[str, object] | None = None,
    position: Position | None = None,
) -> ModelCard:
    """The card of the model that a spec calls `base`: a directory with a `config.json`, a name whose configuration
    `fetch` kept in the project, or a bundled name.

    A relative directory is looked for in the project. `overrides` replaces keys of `config.json`. No network is used.
    Raises UNKNOWN_MODEL with the closest names, UNREADABLE when the directory's files cannot be read.
    """
    changes = dict(overrides or {})
    directory = project / (Path.home() / base[2:] if base.startswith("~/") else base)
    for place in (directory, project / KEPT / base):
        if _exists(place / "config.json", position):
            return _from_directory(place, base, changes, position)
    entry = next((e for e in _catalogue() if base in e.models), None)
    if entry is not None:
        own = dict(entry.models[base])
        chat_format = str(own.pop("chat_format", entry.chat_format))
        config = {**entry.config, **own, **changes}
        return card_from_config(config, base, chat_format=chat_format, engine_made=entry.engine_made, position=position)
    if directory.is_dir():
        raise fail(Code.UNKNOWN_MODEL, f"the directory `{base}` has no `config.json`", position)
    raise fail(Code.UNKNOWN_MODEL, f"unknown model `{base}`", position, hint=_hint(base))


def fetch(base: str, *, project: Path, revision: str | None = None) -> ModelCard:
    """The card of a model on the Hugging Face hub; its configuration is kept in the project's `models/` for `find`.

    Needs the network and `huggingface_hub`. Raises MISSING_EXTRA without that package, UNKNOWN_MODEL when the hub does
    not hand out the file, UNWRITABLE when it cannot be kept.
    """
    try:
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError
    except ImportError:
        hint = "pip install 'ltrl[data]'"
        raise fail(Code.MISSING_EXTRA, "looking up models needs `huggingface_hub`", hint=hint) from None
    found = {}
    try:
        for name in CONFIGURATION:
            try:
                found[name] = Path(hf_hub_download(base, name, revision=revision)).read_bytes()
            except EntryNotFoundError:
                if name == CONFIGURATION[0]:
                    raise
    except (HfHubHTTPError, OSError, ValueError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
        raise fail(Code.UNKNOWN_MODEL, f"cannot get `{base}` from the Hugging Face hub: {reason}") from None
    kept = project / KEPT / base
    try:
        kept.mkdir(parents=True, exist_ok=True)
        for name, content in found.items():
            (kept / name).write_bytes(content)
    except OSError as error:
        raise fail(Code.UNWRITABLE, f"cannot write `{kept}`: {error.strerror}") from None
    return _from_directory(kept, base, {}, None)


def names() -> tuple[str, ...]:
    """Names of the bundled models, in the catalogue's order."""
    return tuple(name for entry in _catalogue() for name in entry.models)


@dataclass(frozen=True, slots=True)
class _Entry:
    """One shape of `catalog.yaml` with the models that have it."""

    config: Mapping[str, object]
    models: Mapping[str, Mapping[str, object]]
    chat_format: str
    engine_made: bool = False


@cache
def _catalogue() -> tuple[_Entry, ...]:
    text = resources.files("ltrl").joinpath("catalog.yaml").read_text(encoding="utf-8")
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml is optional in PyYAML, and ten times as fast
    return tuple(_Entry(**entry) for entry in yaml.load(text, Loader=loader))


def _exists(path: Path, position: Position | None) -> bool:
    try:
        return path.exists()
    except OSError as error:  # a directory on the way may not be entered, or the name is too long
        raise LtrlError(unreadable(error, f"`{path}`", position)) from None


def _from_directory(directory: Path, name: str, changes: Mapping[str, object], position: Position | None) -> ModelCard:
    files = _Files(directory, name, position)
    config = dict(files.read_json("config.json") or {})
    generation = files.read_json("generation_config.json") or {}
    if generation.get("eos_token_id") is not None:
        config["eos_token_id"] = generation["eos_token_id"]
    template = files.chat_template()
    family = str(config.get("model_type"))
    chat_format = _format_of_template(template) if template else _chat_format(directory.name, family)
    return card_from_config({**config, **changes}, name, chat_format=chat_format, position=position)


@dataclass(frozen=True, slots=True)
class _Files:
    """The small files of a model's directory."""

    directory: Path
    name: str
    """As the user wrote it, for messages."""
    position: Position | None

    def read_json(self, file: str) -> Mapping[str, object] | None:
        text = self.read_text(file)
        if text is None:
            return None
        try:
            found = json.loads(text)
        except ValueError as error:
            raise self.broken(file, f"is not JSON: {error}") from None
        if not isinstance(found, dict):
            raise self.broken(file, "holds no JSON object")
        return found

    def read_text(self, file: str) -> str | None:
        try:
            return (self.directory / file).read_text(encoding="utf-8")
        except FileNotFoundError:
            return None
        except UnicodeDecodeError:
            raise self.broken(file, "is not UTF-8") from None
        except OSError as error:
            raise LtrlError(unreadable(error, f"`{self.name}/{file}`", self.position)) from None

    def chat_template(self) -> str:
        """Newer repositories keep it in a file of its own."""
        inside = (self.read_json("tokenizer_config.json") or {}).get("chat_template")
        return self.read_text("chat_template.jinja") or (json.dumps(inside, ensure_ascii=False) if inside else "")

    def broken(self, file: str, how: str) -> LtrlError:
        return fail(Code.UNKNOWN_MODEL, f"`{self.name}/{file}` {how}", self.position)


def _format_of_template(template: str) -> str:
    if "<｜Assistant｜>" in template:  # DeepSeek's full-width bars
        return "deepseek-r1" if "</think>" in template else "plain"
    return "qwen3" if "</think>" in template else "plain"


def _chat_format(name: str, family: str) -> str:
    """A guess where there is no template to read."""
    lower = name.lower()
    if "deepseek-r1" in lower:
        return "deepseek-r1"
    plain = any(part in lower for part in ("-base", "instruct", "coder"))
    return "qwen3" if family in ("qwen3", "qwen3_moe") and not plain else "plain"


def _hint(base: str) -> str:
    short = {name.lower(): name for name in names()}
    short |= {name.rpartition("/")[2].lower(): name for name in names()}
    wanted = base.lower()
    close = difflib.get_close_matches(wanted, short, n=6, cutoff=0.75)
    close += difflib.get_close_matches(wanted.rpartition("/")[2], short, n=6, cutoff=0.75)
    likely = list(dict.fromkeys(short[key] for key in close))[:3]
    did_you_mean = f"did you mean {' or '.join(f'`{name}`' for name in likely)}? " if likely else ""
    fetched = f", and `ltrl model {base} --fetch` asks the Hugging Face hub" if re.fullmatch(HUB_ID, base) else ""
    return f"{did_you_mean}any directory with a `config.json` works too{fetched}"


def _experts(keys: _Keys, family: str) -> tuple[int, int]:
    """Routed experts, and how many layers have none."""
    layers = keys.count("num_hidden_layers")
    match family:
        case "mixtral":
            return keys.count("num_local_experts"), 0
        case "deepseek_v2" | "deepseek_v3":
            experts = keys.whole("n_routed_experts", 0)
            return experts, min(keys.whole("first_k_dense_replace", 0), layers) if experts else 0
        case "qwen2_moe" | "qwen3_moe":
            step, dense = keys.count("decoder_sparse_step", 1), set(keys.tokens("mlp_only_layers"))
            return keys.count("num_experts"), sum(i in dense or (i + 1) % step != 0 for i in range(layers))
        case _:
            return 0, 0


def _expert_sizes(keys: _Keys, family: str) -> tuple[int, int]:
    """Inner width of a routed expert and of the shared ones together."""
    if family == "mixtral":
        return keys.count("intermediate_size"), 0
    size = keys.count("moe_intermediate_size")
    shared = keys.whole("shared_expert_intermediate_size", 0) if family == "qwen2_moe" else 0
    return size, shared + size * keys.whole("n_shared_experts", 0)


def _latent(keys: _Keys) -> LatentAttention:
    return LatentAttention(
        query_rank=keys.whole("q_lora_rank", 0) or None,
        kv_rank=keys.count("kv_lora_rank"),
        rope_head_dim=keys.count("qk_rope_head_dim"),
        value_head_dim=keys.count("v_head_dim"),
    )


def _rope(keys: _Keys) -> tuple[float, Mapping[str, object] | None]:
    """Base and scaling; transformers 5 writes both under `rope_parameters`, earlier ones apart."""
    scaling = dict(keys.table("rope_parameters")) | dict(keys.table("rope_scaling"))
    inner = scaling.pop("rope_theta", None)
    theta = keys.number("rope_theta", 10000.0 if inner is None else inner)
    kind = scaling.pop("rope_type", None) or scaling.pop("type", None) or "default"
    scaling.pop("type", None)
    return theta, None if kind == "default" else {"rope_type": kind, **scaling}


@dataclass(frozen=True, slots=True)
class _Keys:
    """A `config.json` read with checks; a key that is null counts as absent."""

    config: Mapping[str, object]
    name: str
    position: Position | None

    def whole(self, key: str, default: int | None = None) -> int:
        value = self._get(key, default)
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise self.unusable(key, "expected a whole number")
        return value

    def count(self, key: str, default: int | None = None) -> int:
        value = self.whole(key, default)
        if value == 0:
            raise self.unusable(key, "expected a number above 0")
        return value

    def number(self, key: str, default: object) -> float:
        value = self._get(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.unusable(key, "expected a number")
        return float(value)

    def flag(self, key: str, default: bool = False) -> bool:
        value = self._get(key, default)
        if not isinstance(value, bool):
            raise self.unusable(key, "expected true or false")
        return value

    def text(self, key: str) -> str:
        value = self._get(key, None)
        if not isinstance(value, str):
            raise self.unusable(key, "expected a text")
        return value

    def tokens(self, key: str) -> tuple[int, ...]:
        """One number, a list of them, or nothing."""
        value = self._get(key, ())
        values = tuple(value) if isinstance(value, list | tuple) else (value,)
        if not all(isinstance(v, int) for v in values):
            raise self.unusable(key, "expected a number or a list of them")
        return values

    def table(self, key: str) -> Mapping[str, object]:
        value = self._get(key, {})
        if not isinstance(value, Mapping):
            raise self.unusable(key, "expected a mapping")
        return value

    def unusable(self, key: str, expected: str) -> LtrlError:
        value = self.config.get(key)
        got = "it is missing" if value is None else f"it is `{value}`"
        return fail(Code.UNKNOWN_MODEL, f"`{key}` of `{self.name}`: {expected}, {got}", self.position)

    def _get(self, key: str, default: object) -> object:
        value = self.config.get(key)
        return default if value is None else value
