"""One decoder-only transformer that is GPT-2 or LLaMA by configuration.

Tokens come packed: one row of tokens, and offsets that say where sequences begin.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

from tempra import _core
from tempra._core import DType, Tensor
from tempra.models import hugging_face
from tempra.models.kv_cache import KeyValueCache
from tempra.models.transformer_config import TransformerConfig
from tempra.nn import (
    Dropout,
    Embedding,
    GeluFeedForward,
    LayerNorm,
    Linear,
    Module,
    ModuleList,
    RmsNorm,
    RotaryTables,
    SelfAttention,
    SwigluFeedForward,
)
from tempra.nn.init import normal_

IntArray = np.ndarray[Any, np.dtype[np.int32]]


class TokenBatch(Protocol):
    """What a loss needs of a batch: int32 arrays, labels -100 where nothing is learned.

    On a CUDA device they may be tensors that lie there already.
    """

    @property
    def tokens(self) -> IntArray | Tensor:
        """[tokens]."""
        ...

    @property
    def labels(self) -> IntArray | Tensor:
        """[tokens]."""
        ...

    @property
    def offsets(self) -> IntArray | Tensor:
        """[sequences + 1]."""
        ...

    @property
    def positions(self) -> IntArray | Tensor:
        """[tokens]."""
        ...

    @property
    def longest(self) -> int:
        """No sequence is longer; 0: to be found in the offsets."""
        ...

    @property
    def even(self) -> bool:
        """All sequences are as long as the longest may be and no token is in none of them."""
        ...


def _norm(config: TransformerConfig) -> Module:
    if config.family == "gpt2":
        return LayerNorm(config.width, epsilon=config.norm_epsilon, bias=config.bias)
    return RmsNorm(config.width, epsilon=config.norm_epsilon)


def _decoder_norm(norm: Module) -> _core.DecoderNorm:
    if isinstance(norm, LayerNorm):
        return _core.DecoderNorm(norm.weight, norm.bias, epsilon=norm.epsilon, rms=False)
    assert isinstance(norm, RmsNorm)
    return _core.DecoderNorm(norm.weight, epsilon=norm.epsilon, rms=True)


class TransformerBlock(Module):
    """x + attention(norm(x)), then x + feed_forward(norm(x)): pre-norm."""

    def __init__(self, config: TransformerConfig, rotary: RotaryTables | None) -> None:
        self.attention_norm = _norm(config)
        self.attention = SelfAttention(
            config.width,
            config.heads,
            config.kv_heads,
            bias=config.bias,
            dropout=config.dropout,
            rotary=rotary,
        )
        self.feed_forward_norm = _norm(config)
        self.feed_forward: Module
        if config.family == "gpt2":
            self.feed_forward = GeluFeedForward(config.width, config.feed_forward, bias=config.bias)
        else:
            self.feed_forward = SwigluFeedForward(config.width, config.feed_forward)
        self.dropout = Dropout(config.dropout)

    def forward(
        self,
        x: Tensor,
        offsets: Tensor,
        positions: Tensor,
        longest: int = 0,
        even: bool = False,
    ) -> Tensor:
        """Transform x [tokens, width]; `longest`, `even`: see `SelfAttention`."""
        if self.training and self.dropout.probability > 0.0:
            normed = self.attention_norm(x)
            attended = self.attention(normed, offsets, positions, longest=longest, even=even)
            x = x + self.dropout(attended)
            return x + self.dropout(self.feed_forward(self.feed_forward_norm(x)))
        # The residual is added where the last product of each half is stored.
        normed = self.attention_norm(x)
        x = self.attention(normed, offsets, positions, longest=longest, even=even, residual=x)
        return self.feed_forward(self.feed_forward_norm(x), residual=x)

    def decoder_block(self) -> _core.DecoderBlock:
        """Return the parameters, shared, as decoding with a cache reads them."""
        attention, feed_forward = self.attention, self.feed_forward
        rotary = attention.rotary
        if isinstance(feed_forward, SwigluFeedForward):
            up_weights, up_biases = feed_forward.gate_up.weights, feed_forward.gate_up.biases
        else:
            assert isinstance(feed_forward, GeluFeedForward)
            up_weights = [feed_forward.up.weight]
            up_biases = [] if feed_forward.up.bias is None else [feed_forward.up.bias]
        return _core.DecoderBlock(
            heads=attention.heads,
            kv_heads=attention.kv_heads,
            attention_norm=_decoder_norm(self.attention_norm),
            feed_forward_norm=_decoder_norm(self.feed_forward_norm),
            qkv_weights=attention.qkv.weights,
            qkv_biases=attention.qkv.biases,
            output_weight=attention.output.weight,
            output_bias=attention.output.bias,
            rotary=None if rotary is None else (rotary.cosines, rotary.sines),
            up_weights=up_weights,
            up_biases=up_biases,
            activation="none" if len(up_weights) == 2 else "gelu_tanh",
            down_weight=feed_forward.down.weight,
            down_bias=feed_forward.down.bias,
        )


class Transformer(Module):
    """Token embedding, blocks, norm and head.

    Starts from normal numbers of standard deviation 0.02, those of the projections that end a
    residual branch divided by sqrt(2 * layers) (Radford et al. 2019); biases 0, norms 1.
    """

    def __init__(
        self, config: TransformerConfig, *, seed: int = 0, initialize: bool = True
    ) -> None:
        self.config = config
        self.recompute = False  # keep only block inputs for the backward pass
        self.token_embedding = Embedding(config.vocab_size, config.width)
        self.position_embedding = (
            Embedding(config.context, config.width) if config.family == "gpt2" else None
        )
        rotary = None
        if config.family == "llama":
            rotary = RotaryTables(config.head_dim, config.context, config.rope_theta)
        self.embedding_dropout = Dropout(config.dropout)
        self.blocks = ModuleList(TransformerBlock(config, rotary) for _ in range(config.layers))
        self.final_norm = _norm(config)
        self.head = (
            None if config.tie_embeddings else Linear(config.width, config.vocab_size, bias=False)
        )
        if initialize:  # else the caller loads weights
            self.initialize(seed)

    def initialize(self, seed: int) -> None:
        """Give every parameter its starting value, a function of the seed alone."""
        generator = _core.Generator(seed)
        residual = 0.02 / math.sqrt(2 * self.config.layers)
        for name, parameter in self.named_parameters():
            if parameter.ndim >= 2:
                ends_branch = name.endswith(("attention.output.weight", "feed_forward.down.weight"))
                normal_(parameter, residual if ends_branch else 0.02, generator)

    @property
    def dtype(self) -> DType:
        """Of activations; parameters are f32."""
        return DType(self.config.dtype)

    @property
    def device(self) -> str:
        """Where the parameters are."""
        return self.token_embedding.weight.device

    def hidden(
        self,
        tokens: Tensor,
        offsets: Tensor,
        positions: Tensor,
        cache: KeyValueCache | None = None,
        *,
        longest: int = 0,
        even: bool = False,
    ) -> Tensor:
        """Return the last layer's normed output [tokens, width] of packed tokens [tokens].

        With a cache the tokens continue its one sequence, whatever `offsets` says. Without one, on
        a CUDA device, `longest` is the longest sequence; `even`: all sequences are that long.
        """
        x = self.token_embedding(tokens, self.dtype)
        if self.position_embedding is not None:
            x = x + self.position_embedding(positions, self.dtype)
        x = self.embedding_dropout(x)
        if cache is not None:
            return self.final_norm(cache.run(x))
        for block in self.blocks:
            if self.recompute:
                x = _core.recompute(_bound(block, offsets, positions, longest, even), x)
            else:
                x = block(x, offsets, positions, longest, even)
        return self.final_norm(x)

    @property
    def head_weight(self) -> Tensor:
        """The matrix [vocabulary, width] that turns hidden states into logits."""
        return self.token_embedding.weight if self.head is None else self.head.weight

    def decoder_blocks(self) -> list[_core.DecoderBlock]:
        """Return the blocks' parameters, shared, as decoding with a cache reads them."""
        return [
            block.decoder_block() for block in self.blocks if isinstance(block, TransformerBlock)
        ]

    def decoder_ends(self) -> _core.DecoderEnds:
        """Return the parameters before and after the blocks, shared, likewise."""
        positions = self.position_embedding
        return _core.DecoderEnds(
            token_embedding=self.token_embedding.weight,
            position_embedding=None if positions is None else positions.weight,
            norm=_decoder_norm(self.final_norm),
            head_weight=self.head_weight,
        )

    def forward(
        self,
        tokens: Tensor,
        offsets: Tensor,
        positions: Tensor,
        cache: KeyValueCache | None = None,
        *,
        longest: int = 0,
        even: bool = False,
    ) -> Tensor:
        """Return logits [tokens, vocabulary]."""
        hidden = self.hidden(tokens, offsets, positions, cache, longest=longest, even=even)
        return _core.linear(hidden, self.head_weight)

    def loss(self, batch: TokenBatch, reduction: str = "sum", *, deferred: bool = False) -> Tensor:
        """Return the cross-entropy of the batch's labels, summed over those that are trained.

        A `deferred` loss is computed by its `backward()` and is NaN until then. That saves memory:
        as much as the output projection's gradient takes.
        """
        device = self.device
        hidden = self.hidden(
            _on_device(batch.tokens, device),
            _on_device(batch.offsets, device),
            _on_device(batch.positions, device),
            longest=0 if device == "cpu" else _longest(batch),
            even=device != "cpu" and batch.even,
        )
        return _core.linear_cross_entropy(
            hidden,
            self.head_weight,
            _on_device(batch.labels, device),
            reduction=reduction,
            deferred=deferred,
        )

    def flops_per_token(self, block: int | None = None) -> int:
        """See `TransformerConfig.flops_per_token`."""
        return self.config.flops_per_token(block)

    def kv_cache_bytes(self, tokens: int | None = None, batch: int = 1) -> int:
        """See `TransformerConfig.kv_cache_bytes`."""
        return self.config.kv_cache_bytes(tokens, batch)

    def hugging_face_config(self) -> dict[str, Any]:
        """Return the content of config.json."""
        return hugging_face.config_to_json(self.config)

    def to_hugging_face(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return tensors under Hugging Face's names and in its layout."""
        return hugging_face.tensors_to_hugging_face(self.config, tensors)

    def from_hugging_face(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Invert `to_hugging_face`, bit for bit."""
        return hugging_face.tensors_from_hugging_face(self.config, tensors)


def _longest(batch: TokenBatch) -> int:
    return batch.longest or int(np.diff(np.asarray(batch.offsets)).max(initial=0))


def _on_device(array: IntArray | Tensor, device: str) -> Tensor:
    """Return the array where the model is; a copy to a device does not wait for it."""
    if isinstance(array, Tensor):
        return array
    tensor = _core.from_numpy(array)
    return tensor if device == "cpu" else tensor.to(device)


def _bound(block: Module, offsets: Tensor, positions: Tensor, longest: int, even: bool) -> Any:
    return lambda x: block(x, offsets, positions, longest, even)
