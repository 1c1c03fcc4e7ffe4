"""An engine-made model: the Qwen3 architecture, small, with random weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase, Qwen3ForCausalLM

    from ltrl_backends.local_engine.settings import Network

__all__ = ["make_network"]


def make_network(network: Network, tokenizer: PreTrainedTokenizerBase, *, seed: int) -> Qwen3ForCausalLM:
    """The model with weights drawn from the seed; its vocabulary is the tokenizer's, rounded up to a multiple of 32."""
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    config = Qwen3Config(
        vocab_size=-(-len(tokenizer) // 32) * 32,
        hidden_size=network.hidden_size,
        intermediate_size=network.ffn_size,
        num_hidden_layers=network.num_layers,
        num_attention_heads=network.num_heads,
        num_key_value_heads=network.num_kv_heads,
        head_dim=network.head_dim,
        max_position_embeddings=network.max_positions,
        rope_parameters={"rope_type": "default", "rope_theta": network.rope_theta},
        tie_word_embeddings=network.tied_embeddings,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Qwen3ForCausalLM(config)
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    return model
