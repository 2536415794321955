"""Tiny random language models: a GGUF file for llama.cpp and a Hugging Face folder for MLX and vLLM.

Both speak whole words only. Random weights alone would emit stray bytes and control tokens, on which llama-server's
chat parser fails; so the output rows of the words are large and those of everything else are zero.
"""

from __future__ import annotations

import json
from pathlib import Path

import gguf
import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers import models as tokenizer_models

from tests.engines.cache import provide_entry

RECIPE = 1  # raise it when the content of the files changes
SENTENCE = (
    "cattle graze near old fences while riders watch slow clouds drift over dry hills and dogs sleep beside open "
    "gates until evening brings cool wind from north water runs along stone walls children count stars above barns"
)
WORDS = SENTENCE.split()
CONTEXT = 8192
LAYERS = 2
HEADS = 2
RMS_EPSILON = 1e-5
CHAT_TEMPLATE = "{% for message in messages %}<{{ message.role }}> {{ message.content }}\n{% endfor %}<assistant>"

Matrix = NDArray[np.float32]


def provide_tiny_gguf() -> Path:
    """A llama-architecture GGUF file of half a megabyte."""
    return provide_entry(f"tiny-gguf-{RECIPE}", lambda folder: _write_gguf(folder / "tiny.gguf")) / "tiny.gguf"


def provide_tiny_hf() -> Path:
    """A llama-architecture model folder as Hugging Face lays them out."""
    return provide_entry(f"tiny-hf-{RECIPE}", _write_hf)


class _Weights:
    """The same numbers for the same seed, wherever they are made."""

    def __init__(self, seed: int) -> None:
        self._random = np.random.default_rng(seed)

    def draw(self, rows: int, columns: int, scale: float = 0.05) -> Matrix:
        return (self._random.standard_normal((rows, columns)) * scale).astype(np.float32)

    def draw_output(self, vocabulary: int, width: int, words: list[int]) -> Matrix:
        output = np.zeros((vocabulary, width), np.float32)
        output[words] = self.draw(len(words), width, 5)
        return output


def _write_gguf(path: Path) -> None:
    width, feed_forward = 64, 128
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *("\u2581" + word for word in WORDS)]
    first_word = len(tokens) - len(WORDS)
    kind = gguf.TokenType
    kinds = [kind.UNKNOWN, kind.CONTROL, kind.CONTROL, *[kind.BYTE] * 256, *[kind.NORMAL] * len(WORDS)]

    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("Corral tiny")
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(width)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(feed_forward)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_rope_dimension_count(width // HEADS)
    writer.add_layer_norm_rms_eps(RMS_EPSILON)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("llama")
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    writer.add_token_scores([0.0] * first_word + [-1.0 - rank for rank in range(len(WORDS))])
    writer.add_unk_token_id(0)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_chat_template(CHAT_TEMPLATE)

    weights = _Weights(20261120)
    ones = np.ones(width, np.float32)
    writer.add_tensor("token_embd.weight", weights.draw(len(tokens), width))
    writer.add_tensor("output_norm.weight", ones)
    writer.add_tensor("output.weight", weights.draw_output(len(tokens), width, list(range(first_word, len(tokens)))))
    for layer in range(LAYERS):
        prefix = f"blk.{layer}"
        writer.add_tensor(f"{prefix}.attn_norm.weight", ones)
        writer.add_tensor(f"{prefix}.ffn_norm.weight", ones)
        for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
            writer.add_tensor(f"{prefix}.{name}.weight", weights.draw(width, width))
        for name in ("ffn_gate", "ffn_up"):
            writer.add_tensor(f"{prefix}.{name}.weight", weights.draw(feed_forward, width))
        writer.add_tensor(f"{prefix}.ffn_down.weight", weights.draw(width, feed_forward))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _write_hf(folder: Path) -> None:
    # vLLM's attention on a CPU refuses heads smaller than 64.
    head, width, feed_forward = 64, HEADS * 64, 256
    tokenizer, words = _make_tokenizer()
    tokenizer.save(str(folder / "tokenizer.json"))
    vocabulary = tokenizer.get_vocab_size()
    begin, end = tokenizer.token_to_id("<s>"), tokenizer.token_to_id("</s>")
    _write_json(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": "<s>",
            "eos_token": "</s>",
            "model_max_length": CONTEXT,
            "chat_template": CHAT_TEMPLATE,
        },
    )
    _write_json(folder / "generation_config.json", {"bos_token_id": begin, "eos_token_id": end})
    _write_json(
        folder / "config.json",
        {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "vocab_size": vocabulary,
            "hidden_size": width,
            "head_dim": head,
            "intermediate_size": feed_forward,
            "num_hidden_layers": LAYERS,
            "num_attention_heads": HEADS,
            "num_key_value_heads": HEADS,
            "max_position_embeddings": CONTEXT,
            "rms_norm_eps": RMS_EPSILON,
            "rope_theta": 10000.0,
            "hidden_act": "silu",
            "bos_token_id": begin,
            "eos_token_id": end,
            "tie_word_embeddings": False,
            "torch_dtype": "float32",
        },
    )

    weights = _Weights(20261121)
    ones = np.ones(width, np.float32)
    tensors = {
        "model.embed_tokens.weight": weights.draw(vocabulary, width),
        "model.norm.weight": ones,
        "lm_head.weight": weights.draw_output(vocabulary, width, words),
    }
    for layer in range(LAYERS):
        prefix = f"model.layers.{layer}"
        tensors[f"{prefix}.input_layernorm.weight"] = ones
        tensors[f"{prefix}.post_attention_layernorm.weight"] = ones
        for name in ("q_proj", "k_proj", "v_proj", "o_proj"):
            tensors[f"{prefix}.self_attn.{name}.weight"] = weights.draw(width, width)
        for name in ("gate_proj", "up_proj"):
            tensors[f"{prefix}.mlp.{name}.weight"] = weights.draw(feed_forward, width)
        tensors[f"{prefix}.mlp.down_proj.weight"] = weights.draw(width, feed_forward)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def _make_tokenizer() -> tuple[Tokenizer, list[int]]:
    """A byte-level tokenizer that also knows the words, and the ids of the words."""
    vocabulary = {symbol: number for number, symbol in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    merges: list[tuple[str, str]] = []
    for word in WORDS:
        piece = "\u0120"  # how the byte-level alphabet writes a space
        for letter in word:
            if piece + letter not in vocabulary:
                vocabulary[piece + letter] = len(vocabulary)
                merges.append((piece, letter))
            piece += letter
    words = [vocabulary["\u0120" + word] for word in WORDS]
    tokenizer = Tokenizer(tokenizer_models.BPE(vocab=vocabulary, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<s>", "</s>"])
    return tokenizer, words


def _write_json(path: Path, content: dict[str, object]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
