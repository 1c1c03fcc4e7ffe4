"""Model cards: exact parameter counts, every way to a card, and what is said when there is none."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest

from ltrl import catalog
from ltrl.catalog import LatentAttention, ModelCard, card_from_config, find
from ltrl.errors import Code, LtrlError, Position, Source

ROOT = Path(__file__).parents[1]

# Totals of the published safetensors files (`safetensors.total` of huggingface.co/api/models/<id>), except: models with
# tied embeddings whose files repeat the matrix (Qwen3-0.6B, 1.7B), where it is counted once as transformers does;
# DeepSeek-V3 and R1, whose published 671,026,419,200 leaves out the multi-token-prediction layer and the fp8 scales.
TOTALS = {
    "Qwen/Qwen3-0.6B": 596_049_920,
    "Qwen/Qwen3-1.7B": 1_720_574_976,
    "Qwen/Qwen3-4B": 4_022_468_096,
    "Qwen/Qwen3-4B-Thinking-2507": 4_022_468_096,
    "Qwen/Qwen3-8B": 8_190_735_360,
    "deepseek-ai/DeepSeek-R1-0528-Qwen3-8B": 8_190_735_360,
    "Qwen/Qwen3-14B": 14_768_307_200,
    "Qwen/Qwen3-32B": 32_762_123_264,
    "Qwen/Qwen3-30B-A3B": 30_532_122_624,
    "Qwen/Qwen3-30B-A3B-Thinking-2507": 30_532_122_624,
    "Qwen/Qwen3-235B-A22B": 235_093_634_560,
    "Qwen/Qwen2.5-0.5B-Instruct": 494_032_768,
    "Qwen/Qwen2.5-1.5B-Instruct": 1_543_714_304,
    "Qwen/Qwen2.5-3B-Instruct": 3_085_938_688,
    "Qwen/Qwen2.5-7B-Instruct": 7_615_616_512,
    "Qwen/Qwen2.5-14B-Instruct": 14_770_033_664,
    "Qwen/Qwen2.5-32B-Instruct": 32_763_876_352,
    "Qwen/Qwen2.5-72B-Instruct": 72_706_203_648,
    "deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B": 1_777_088_000,
    "deepseek-ai/DeepSeek-R1-Distill-Qwen-7B": 7_615_616_512,
    "meta-llama/Llama-3.1-8B": 8_030_261_248,
    "deepseek-ai/DeepSeek-R1-Distill-Llama-8B": 8_030_261_248,
    "meta-llama/Llama-3.1-70B": 70_553_706_496,
    "meta-llama/Llama-3.3-70B-Instruct": 70_553_706_496,
    "meta-llama/Llama-3.1-405B": 405_853_388_800,
    "meta-llama/Llama-3.2-1B": 1_235_814_400,
    "meta-llama/Llama-3.2-3B": 3_212_749_824,
    "mistralai/Mistral-7B-Instruct-v0.2": 7_241_732_096,
    "mistralai/Mistral-7B-v0.3": 7_248_023_552,
    "mistralai/Mistral-Nemo-Base-2407": 12_247_782_400,
    "mistralai/Mixtral-8x7B-v0.1": 46_702_792_704,
    "mistralai/Mixtral-8x22B-v0.1": 140_620_634_112,
    "deepseek-ai/DeepSeek-V2-Lite": 15_706_484_224,
    "deepseek-ai/DeepSeek-V3": 671_026_419_200,
}

QWEN3_8B: dict[str, Any] = {
    "architectures": ["Qwen3ForCausalLM"],
    "attention_bias": False,
    "eos_token_id": 151645,
    "head_dim": 128,
    "hidden_size": 4096,
    "intermediate_size": 12288,
    "max_position_embeddings": 40960,
    "model_type": "qwen3",
    "num_attention_heads": 32,
    "num_hidden_layers": 36,
    "num_key_value_heads": 8,
    "rope_scaling": None,
    "rope_theta": 1000000,
    "tie_word_embeddings": False,
    "vocab_size": 151936,
}


def write(directory: Path, name: str, content: object) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    (directory / name).write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")


def diagnosis(error: LtrlError) -> tuple[Code, str, str | None]:
    (found,) = error.diagnostics
    return found.code, found.message, found.hint


@pytest.mark.parametrize(("name", "total"), TOTALS.items())
def test_parameters_equal_the_published_total(name: str, total: int, tmp_path: Path) -> None:
    assert find(name, project=tmp_path).num_parameters == total


def test_parameters_of_qwen3_8b_by_hand(tmp_path: Path) -> None:
    # attention 4096 x (2 x 4096 + 2 x 1024) = 41,943,040; feed-forward 3 x 4096 x 12288 = 150,994,944;
    # norms 2 x 4096 + 2 x 128 = 8,448; 36 layers; 2 x 151936 x 4096 of embeddings; the last norm 4096
    by_hand = 36 * (41_943_040 + 150_994_944 + 8_448) + 2 * 622_329_856 + 4_096
    assert find("Qwen/Qwen3-8B", project=tmp_path).num_parameters == by_hand == 8_190_735_360


def test_active_parameters_count_the_experts_of_one_token(tmp_path: Path) -> None:
    moe = find("Qwen/Qwen3-30B-A3B", project=tmp_path)
    assert moe.num_active_parameters == 3_353_032_704  # "3.3B activated", Qwen3 model card
    dense = find("Qwen/Qwen3-8B", project=tmp_path)
    assert dense.num_active_parameters == dense.num_parameters


@pytest.mark.parametrize("name", catalog.names())
def test_every_bundled_card_is_whole(name: str, tmp_path: Path) -> None:
    card = find(name, project=tmp_path)
    assert card.name == name
    assert card.num_heads % card.num_kv_heads == 0
    assert card.chat_format in ("qwen3", "deepseek-r1", "plain")
    assert card.stop_token_ids or card.engine_made
    assert card.num_moe_layers == (card.num_layers - card.num_dense_layers if card.num_experts else 0)


def test_card_of_the_base_models(tmp_path: Path) -> None:
    assert find("Qwen/Qwen3-30B-A3B-Thinking-2507", project=tmp_path) == ModelCard(
        name="Qwen/Qwen3-30B-A3B-Thinking-2507",
        architecture="Qwen3MoeForCausalLM",
        num_layers=48,
        hidden_size=2048,
        ffn_size=6144,
        num_heads=32,
        num_kv_heads=4,
        head_dim=128,
        vocab_size=151936,
        tied_embeddings=False,
        qk_norm=True,
        attention_bias=False,
        num_experts=128,
        experts_per_token=8,
        expert_ffn_size=768,
        max_positions=262144,
        rope_theta=1e7,
        rope_scaling=None,
        stop_token_ids=(151645, 151643),
        chat_format="qwen3",
    )
    small = find("Qwen/Qwen3-4B-Thinking-2507", project=tmp_path)
    assert (small.max_positions, small.rope_theta, small.tied_embeddings) == (262144, 5e6, True)
    distill = find("deepseek-ai/DeepSeek-R1-0528-Qwen3-8B", project=tmp_path)
    assert (distill.max_positions, distill.rope_theta, distill.stop_token_ids) == (131072, 1e6, (151645,))
    assert distill.chat_format == "deepseek-r1"
    assert distill.rope_scaling == {
        "rope_type": "yarn",
        "factor": 4.0,
        "original_max_position_embeddings": 32768,
        "attn_factor": 0.8782488562869419,
    }


def test_engine_made_model_has_a_card(tmp_path: Path) -> None:
    card = find("tiny-qwen3", project=tmp_path)
    assert card == ModelCard(
        name="tiny-qwen3",
        architecture="Qwen3ForCausalLM",
        num_layers=2,
        hidden_size=128,
        ffn_size=256,
        num_heads=8,
        num_kv_heads=4,
        head_dim=32,
        vocab_size=512,
        tied_embeddings=True,
        qk_norm=True,
        attention_bias=False,
        max_positions=4096,
        rope_theta=1000.0,
        rope_scaling=None,
        stop_token_ids=(),
        chat_format="qwen3",
        engine_made=True,
    )
    # 2 x (128 x (2 x 256 + 2 x 128) + 3 x 128 x 256 + 2 x 128 + 2 x 32) + 512 x 128 + 128
    assert card.num_parameters == 459_520


def test_qwen2_moe_counts_shared_expert_and_gate() -> None:
    config = {  # Qwen1.5-MoE-A2.7B
        "model_type": "qwen2_moe",
        "num_hidden_layers": 24,
        "hidden_size": 2048,
        "intermediate_size": 5632,
        "num_attention_heads": 16,
        "num_key_value_heads": 16,
        "vocab_size": 151936,
        "tie_word_embeddings": False,
        "num_experts": 60,
        "num_experts_per_tok": 4,
        "moe_intermediate_size": 1408,
        "shared_expert_intermediate_size": 5632,
        "max_position_embeddings": 8192,
        "eos_token_id": 151643,
    }
    assert card_from_config(config, "Qwen/Qwen1.5-MoE-A2.7B").num_parameters == 14_315_784_192


def test_latent_attention_is_read(tmp_path: Path) -> None:
    card = find("deepseek-ai/DeepSeek-V3", project=tmp_path)
    assert card.latent == LatentAttention(query_rank=1536, kv_rank=512, rope_head_dim=64, value_head_dim=128)
    assert (card.head_dim, card.num_dense_layers, card.shared_expert_ffn_size) == (192, 3, 2048)


def test_absent_keys_have_the_defaults_of_transformers() -> None:
    config = {
        "model_type": "llama",
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "vocab_size": 100,
        "max_position_embeddings": 512,
    }
    card = card_from_config(config, "x")
    assert (card.num_kv_heads, card.head_dim, card.rope_theta, card.rope_scaling) == (4, 16, 10000.0, None)
    assert (card.tied_embeddings, card.stop_token_ids, card.chat_format) == (False, (), "plain")


def test_rope_is_read_as_transformers_5_writes_it() -> None:
    config = {k: v for k, v in QWEN3_8B.items() if not k.startswith("rope")}
    plain = card_from_config({**config, "rope_parameters": {"rope_type": "default", "rope_theta": 5e6}}, "x")
    assert (plain.rope_theta, plain.rope_scaling) == (5e6, None)
    scaled = {"rope_type": "yarn", "factor": 2.0, "rope_theta": 1e6}
    card = card_from_config({**config, "rope_parameters": scaled}, "x")
    assert (card.rope_theta, card.rope_scaling) == (1e6, {"rope_type": "yarn", "factor": 2.0})


def test_old_name_of_the_scaling_type_is_read() -> None:
    card = card_from_config({**QWEN3_8B, "rope_scaling": {"type": "yarn", "factor": 4.0}}, "x")
    assert card.rope_scaling == {"rope_type": "yarn", "factor": 4.0}


def test_sparse_layers_are_counted() -> None:
    config = {
        **QWEN3_8B,
        "model_type": "qwen3_moe",
        "num_hidden_layers": 6,
        "num_experts": 8,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 16,
        "decoder_sparse_step": 2,
        "mlp_only_layers": [1],
    }
    card = card_from_config(config, "x")
    assert (card.num_dense_layers, card.num_moe_layers) == (4, 2)  # layers 3 and 5 are sparse


def test_directory_in_the_project_wins_over_the_catalogue(tmp_path: Path) -> None:
    write(tmp_path / "Qwen/Qwen3-8B", "config.json", {**QWEN3_8B, "max_position_embeddings": 12345})
    assert find("Qwen/Qwen3-8B", project=tmp_path).max_positions == 12345


def test_directory_is_found_relative_absolute_and_with_overrides(tmp_path: Path) -> None:
    write(tmp_path / "models/mine", "config.json", QWEN3_8B)
    assert find("models/mine", project=tmp_path).num_parameters == 8_190_735_360
    assert find(str(tmp_path / "models/mine"), project=tmp_path / "elsewhere").name == str(tmp_path / "models/mine")
    card = find("models/mine", project=tmp_path, overrides={"max_position_embeddings": 163840})
    assert card.max_positions == 163840


def test_overrides_reach_a_bundled_card(tmp_path: Path) -> None:
    yarn = {"rope_type": "yarn", "factor": 5.0, "original_max_position_embeddings": 32768}
    changes = {"rope_scaling": yarn, "max_position_embeddings": 163840}
    card = find("deepseek-ai/DeepSeek-R1-0528-Qwen3-8B", project=tmp_path, overrides=changes)
    assert (card.max_positions, card.rope_scaling, card.chat_format) == (163840, yarn, "deepseek-r1")


def test_stop_tokens_come_from_the_generation_config(tmp_path: Path) -> None:
    write(tmp_path / "mine", "config.json", QWEN3_8B)
    assert find("mine", project=tmp_path).stop_token_ids == (151645,)
    write(tmp_path / "mine", "generation_config.json", {"eos_token_id": [151645, 151643]})
    assert find("mine", project=tmp_path).stop_token_ids == (151645, 151643)


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("{{ '<｜Assistant｜><think>' }}{% set c = c.split('</think>') %}", "deepseek-r1"),
        ("<|im_start|>assistant {{ c.split('</think>') }}", "qwen3"),
        ("<|im_start|>assistant", "plain"),
    ],
)
def test_chat_format_is_read_from_the_template(template: str, expected: str, tmp_path: Path) -> None:
    write(tmp_path / "old", "config.json", QWEN3_8B)
    write(tmp_path / "old", "tokenizer_config.json", {"chat_template": template})
    assert find("old", project=tmp_path).chat_format == expected
    write(tmp_path / "new", "config.json", QWEN3_8B)
    write(tmp_path / "new", "tokenizer_config.json", {"model_max_length": 1})
    write(tmp_path / "new", "chat_template.jinja", template)
    assert find("new", project=tmp_path).chat_format == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [("my-qwen3", "qwen3"), ("my-qwen3-base", "plain"), ("DeepSeek-R1-mine", "deepseek-r1")],
)
def test_chat_format_is_guessed_without_a_template(name: str, expected: str, tmp_path: Path) -> None:
    write(tmp_path / name, "config.json", QWEN3_8B)
    assert find(name, project=tmp_path).chat_format == expected


@pytest.mark.parametrize(
    ("wrong", "likely"),
    [
        ("Qwen/Qwen3-30B-A3B-Thinking", "`Qwen/Qwen3-30B-A3B-Thinking-2507`"),
        ("qwen3-8b", "`Qwen/Qwen3-8B`"),
        ("qwen/qwen3-8b", "`Qwen/Qwen3-8B`"),
        ("meta-llama/Llama-3.1-8B-Instuct", "`meta-llama/Llama-3.1-8B-Instruct`"),
    ],
)
def test_misspelt_model_suggests_close_names(wrong: str, likely: str, tmp_path: Path) -> None:
    with pytest.raises(LtrlError) as caught:
        find(wrong, project=tmp_path)
    code, message, hint = diagnosis(caught.value)
    assert (code, message) == (Code.UNKNOWN_MODEL, f"unknown model `{wrong}`")
    assert hint is not None
    assert hint.startswith(f"did you mean {likely}")
    asked = f", and `ltrl model {wrong} --fetch` asks the Hugging Face hub" if "/" in wrong else ""
    assert hint.endswith(f"any directory with a `config.json` works too{asked}")


def test_unknown_model_points_at_its_place(tmp_path: Path) -> None:
    place = Position(Source("spec.yaml", "model: {base: zzz}\n"), 1, 15, 3)
    with pytest.raises(LtrlError) as caught:
        find("zzz", project=tmp_path, position=place)
    (found,) = caught.value.diagnostics
    assert found.position == place
    assert found.hint == "any directory with a `config.json` works too"


def test_directory_without_config_is_told_apart(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(LtrlError) as caught:
        find("empty", project=tmp_path)
    assert diagnosis(caught.value) == (Code.UNKNOWN_MODEL, "the directory `empty` has no `config.json`", None)


def test_unsupported_family_names_the_supported_ones(tmp_path: Path) -> None:
    write(tmp_path / "other", "config.json", {"model_type": "mamba2"})
    with pytest.raises(LtrlError) as caught:
        find("other", project=tmp_path)
    assert diagnosis(caught.value) == (
        Code.UNKNOWN_MODEL,
        "`other` is a `mamba2` model, which ltrl does not know",
        (
            "the families it knows are deepseek_v2, deepseek_v3, llama, mistral, mixtral, qwen2, qwen2_moe, qwen3, "
            "qwen3_moe"
        ),
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hidden_size": None}, "`hidden_size` of `x`: expected a whole number, it is missing"),
        ({"hidden_size": "big"}, "`hidden_size` of `x`: expected a whole number, it is `big`"),
        ({"hidden_size": True}, "`hidden_size` of `x`: expected a whole number, it is `True`"),
        ({"num_attention_heads": 0}, "`num_attention_heads` of `x`: expected a number above 0, it is `0`"),
        ({"rope_theta": "1e6"}, "`rope_theta` of `x`: expected a number, it is `1e6`"),
        ({"rope_scaling": 4}, "`rope_scaling` of `x`: expected a mapping, it is `4`"),
        ({"tie_word_embeddings": 1}, "`tie_word_embeddings` of `x`: expected true or false, it is `1`"),
        ({"eos_token_id": ["a"]}, "`eos_token_id` of `x`: expected a number or a list of them, it is `['a']`"),
        ({"model_type": None}, "`model_type` of `x`: expected a text, it is missing"),
    ],
)
def test_unusable_values_are_named(change: dict[str, object], message: str) -> None:
    with pytest.raises(LtrlError) as caught:
        card_from_config({**QWEN3_8B, **change}, "x")
    assert diagnosis(caught.value) == (Code.UNKNOWN_MODEL, message, None)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "is not JSON: Expecting property name enclosed in double quotes: line 1 column 2 (char 1)"),
        (b"[]", "holds no JSON object"),
        (b"\xff", "is not UTF-8"),
    ],
)
def test_broken_config_is_an_error_of_the_user(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken/config.json").write_bytes(content)
    with pytest.raises(LtrlError) as caught:
        find("broken", project=tmp_path)
    assert diagnosis(caught.value) == (Code.UNKNOWN_MODEL, f"`broken/config.json` {message}", None)


def test_config_that_is_a_directory_is_unreadable(tmp_path: Path) -> None:
    (tmp_path / "odd/config.json").mkdir(parents=True)
    with pytest.raises(LtrlError) as caught:
        find("odd", project=tmp_path)
    code, message, _ = diagnosis(caught.value)
    assert (code, message) == (Code.UNREADABLE, "cannot read `odd/config.json`: is a directory")


def test_finding_a_card_loads_nothing_heavy() -> None:
    program = (
        "import sys; from pathlib import Path; from ltrl import catalog;"
        "catalog.find('Qwen/Qwen3-8B', project=Path('/'));"
        "print(sorted({'torch', 'transformers', 'huggingface_hub', 'pydantic'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout == "[]\n"


def test_transformers_counts_the_same() -> None:
    """Every bundled shape, built without memory; needs the extra `local`."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    counted, expected = {}, {}
    for name in ("tiny-qwen3", "Qwen/Qwen3-4B", "Qwen/Qwen2.5-7B", "meta-llama/Llama-3.2-1B"):
        card = find(name, project=ROOT)
        config = transformers.AutoConfig.for_model(
            {"Qwen3ForCausalLM": "qwen3", "Qwen2ForCausalLM": "qwen2", "LlamaForCausalLM": "llama"}[card.architecture],
            num_hidden_layers=card.num_layers,
            hidden_size=card.hidden_size,
            intermediate_size=card.ffn_size,
            num_attention_heads=card.num_heads,
            num_key_value_heads=card.num_kv_heads,
            head_dim=card.head_dim,
            vocab_size=card.vocab_size,
            tie_word_embeddings=card.tied_embeddings,
        )
        with torch.device("meta"):
            model = transformers.AutoModelForCausalLM.from_config(config)
        counted[name] = sum(weight.numel() for weight in model.parameters())
        expected[name] = card.num_parameters
    assert counted == expected


class Hub(BaseHTTPRequestHandler):
    """Answers as huggingface.co does for the files of a model."""

    files: ClassVar[dict[str, bytes]] = {}

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        content = self.files.get(self.path)
        self.send_response(200 if content is not None else 404)
        if content is None:
            self.send_header("X-Error-Code", "EntryNotFound" if "/own/model/" in self.path else "RepoNotFound")
            content = b""
        self.send_header("X-Repo-Commit", "0" * 40)
        self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def hub() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_model_of_the_hub_is_fetched_once_and_then_known_to_the_project(hub: str, tmp_path: Path) -> None:
    pytest.importorskip("huggingface_hub")
    config = {
        "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "num_hidden_layers": 2, "hidden_size": 64,
        "intermediate_size": 128, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16,
        "vocab_size": 1000, "max_position_embeddings": 4096, "tie_word_embeddings": True, "eos_token_id": 7,
    }  # fmt: skip
    Hub.files = {"/own/model/resolve/main/config.json": json.dumps(config).encode()}
    (tmp_path / "pyproject.toml").touch()
    code = "import sys; from ltrl.cli import main; sys.argv = ['ltrl', *sys.argv[1:]]; main()"
    environment = {**os.environ, "HF_ENDPOINT": hub, "HF_HOME": str(tmp_path / "cache"), "HF_HUB_OFFLINE": "0"}

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        argv = [sys.executable, "-c", code, "model", *words]
        return subprocess.run(argv, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)

    fetched = run("own/model", "--fetch", "--json")
    assert fetched.returncode == 0, fetched.stderr
    card = json.loads(fetched.stdout)
    assert (card["name"], card["num_layers"], card["num_parameters"]) == ("own/model", 2, 138_112)
    assert [path.name for path in (tmp_path / "models" / "own" / "model").iterdir()] == ["config.json"]
    Hub.files = {}
    assert json.loads(run("own/model", "--json").stdout) == card
    assert find("own/model", project=tmp_path).num_layers == 2
    unknown = run("other/model", "--fetch")
    assert (unknown.returncode, unknown.stdout) == (1, "")
    assert unknown.stderr.startswith("error[LTRL020]: cannot get `other/model` from the Hugging Face hub: ")
    hostile = run("../../etc", "--fetch")
    assert (hostile.returncode, hostile.stdout) == (1, "")
    assert "Traceback" not in hostile.stderr
