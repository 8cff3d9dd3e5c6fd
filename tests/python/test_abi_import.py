"""Flat weights of the ABI program become a model: arrays by name, forward pass, commands."""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import tempra
from tempra import _core
from tempra.checkpoint import load_weights
from tempra.cli.main import main
from tempra.data import ByteTokenizer, save_tokenizer
from tempra.models import Transformer, TransformerConfig
from tempra.models.hugging_face import config_from_json
from tempra.train import import_abi_model, read_abi_model
from tempra.train.trained_model import load_trained_model
from wdbx_files import METADATA, VECTORS, FileV3, Section, block, name_of, record

Floats = NDArray[np.float32]

WIDTH, LAYERS, HEADS, KV_HEADS, WIDE, VOCAB = 16, 2, 4, 2, 24, 257
SIZES = {
    "width": WIDTH, "layers": LAYERS, "heads": HEADS, "kv_heads": KV_HEADS,
    "feed_forward": WIDE, "vocab_size": VOCAB,
}  # fmt: skip
OPTIONS = [
    "--width", WIDTH, "--layers", LAYERS, "--heads", HEADS, "--kv-heads", KV_HEADS,
    "--feed-forward", WIDE,
]  # fmt: skip
HEAD = WIDTH // HEADS
KEYS = KV_HEADS * HEAD


def config(*, tied: bool = True) -> TransformerConfig:
    return TransformerConfig.for_family(
        "llama", **SIZES, context=32, norm_epsilon=1e-5, tie_embeddings=tied
    )


class Weights:
    """A model's arrays in the order of the description's section 10.4, and as one flat array."""

    def __init__(self, seed: int = 0, *, tied: bool = True) -> None:
        random = np.random.default_rng(seed)
        self._parts: list[Floats] = []

        def take(*shape: int) -> Floats:
            part = random.normal(0, 0.3, shape).astype(np.float32)
            self._parts.append(part)
            return part

        self.embedding = take(VOCAB, WIDTH)
        self.layers = [
            {
                "q": take(WIDTH, WIDTH), "k": take(KEYS, WIDTH), "v": take(KEYS, WIDTH),
                "o": take(WIDTH, WIDTH), "attention_norm": take(WIDTH),
                "gate": take(WIDE, WIDTH), "up": take(WIDE, WIDTH), "down": take(WIDTH, WIDE),
                "feed_forward_norm": take(WIDTH),
            }
            for _ in range(LAYERS)
        ]  # fmt: skip
        self.norm = take(WIDTH)
        self.output = self.embedding if tied else take(VOCAB, WIDTH)
        self.flat: Floats = np.concatenate([part.reshape(-1) for part in self._parts])


def abic(flat: Floats) -> bytes:
    return struct.pack("<4sHQQI", b"ABIC", 1, 42, 0, flat.size) + flat.tobytes()


def ablc(flat: Floats, first: Floats, second: Floats) -> bytes:
    counts = (flat.size, first.size, second.size)
    head = struct.pack("<4sHQIQQ3I", b"ABLC", 1, 7, 2, 999, 0, *counts)
    return head + flat.tobytes() + first.tobytes() + second.tobytes()


def container(flat: Floats, name: bytes) -> bytes:
    records = record(0, flat.tobytes(), b"my model")
    if name == b"brain_export":
        records += record(1, bytes(4 * flat.size), b'{"final_loss": 1.0}')
    count = 2 if name == b"brain_export" else 1
    sections = [Section(METADATA, name_of(name)), Section(VECTORS, records)]
    return FileV3(sections, count, flat.size).to_bytes()


def forward(weights: Weights, tokens: Sequence[int]) -> NDArray[np.float64]:
    """Return the logits of a LLaMA, in plain NumPy and f64."""

    def normed(x: NDArray[np.float64], scale: Floats) -> NDArray[np.float64]:
        return x / np.sqrt((x * x).mean(-1, keepdims=True) + 1e-5) * scale

    def rotated(x: NDArray[np.float64]) -> NDArray[np.float64]:
        half = HEAD // 2
        angles = np.arange(len(tokens))[:, None] * 10000.0 ** (-np.arange(half) / half)
        cosine, sine = np.cos(angles)[:, None], np.sin(angles)[:, None]
        low, high = x[..., :half], x[..., half:]
        return np.concatenate([low * cosine - high * sine, low * sine + high * cosine], -1)

    count = len(tokens)
    x = weights.embedding[list(tokens)].astype(np.float64)
    causal = np.triu(np.full((count, count), -np.inf), 1)
    for layer in weights.layers:
        y = normed(x, layer["attention_norm"])
        q = rotated((y @ layer["q"].T).reshape(count, HEADS, HEAD))
        k = rotated((y @ layer["k"].T).reshape(count, KV_HEADS, HEAD))
        v = (y @ layer["v"].T).reshape(count, KV_HEADS, HEAD)
        mixed = []
        for head in range(HEADS):
            group = head * KV_HEADS // HEADS
            scores = q[:, head] @ k[:, group].T / np.sqrt(HEAD) + causal
            exponentials = np.exp(scores - scores.max(-1, keepdims=True))
            mixed.append(exponentials / exponentials.sum(-1, keepdims=True) @ v[:, group])
        x = x + np.concatenate(mixed, -1) @ layer["o"].T
        y = normed(x, layer["feed_forward_norm"])
        gate = y @ layer["gate"].T
        x = x + (gate / (1 + np.exp(-gate)) * (y @ layer["up"].T)) @ layer["down"].T
    return normed(x, weights.norm) @ weights.output.T


def assert_named(found: dict[str, Floats], weights: Weights, *, tied: bool) -> None:
    expected = {"model.embed_tokens.weight": weights.embedding, "model.norm.weight": weights.norm}
    if not tied:
        expected["lm_head.weight"] = weights.output
    names = {
        "q": "self_attn.q_proj", "k": "self_attn.k_proj", "v": "self_attn.v_proj",
        "o": "self_attn.o_proj", "attention_norm": "input_layernorm", "gate": "mlp.gate_proj",
        "up": "mlp.up_proj", "down": "mlp.down_proj",
        "feed_forward_norm": "post_attention_layernorm",
    }  # fmt: skip
    for number, layer in enumerate(weights.layers):
        for name, array in layer.items():
            expected[f"model.layers.{number}.{names[name]}.weight"] = array
    assert set(found) == set(expected)
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array, err_msg=name)


@pytest.mark.parametrize("tied", [True, False])
def test_the_model_computes_what_the_description_says(tmp_path: Path, tied: bool) -> None:
    weights = Weights(tied=tied)
    (tmp_path / "a.ckpt").write_bytes(abic(weights.flat))
    model = import_abi_model(tmp_path / "a.ckpt", tmp_path / "out", config(tied=tied))
    assert model.step == 42
    assert_named(model.weights, weights, tied=tied)
    tensors, values = load_weights(tmp_path / "out")
    assert_named({name: t.numpy() for name, t in tensors.items()}, weights, tied=tied)
    loaded = Transformer(config_from_json(values), initialize=False)
    assert loaded.config == config(tied=tied)
    for name, tensor in loaded.from_hugging_face(tensors).items():
        with _core.no_grad():
            dict(loaded.named_parameters())[name].copy_(tensor)
    tokens = [3, 200, 7, 7, 0, 256, 31]
    logits = loaded(
        _core.from_numpy(np.array(tokens, dtype=np.int32)),
        _core.from_numpy(np.array([0, len(tokens)], dtype=np.int32)),
        _core.from_numpy(np.arange(len(tokens), dtype=np.int32)),
    )
    np.testing.assert_allclose(logits.detach().numpy(), forward(weights, tokens), atol=2e-5)


def test_moments_by_name(tmp_path: Path) -> None:
    weights, first, second = Weights(0), Weights(1), Weights(2)
    (tmp_path / "a.ckpt").write_bytes(ablc(weights.flat, first.flat, second.flat))
    model = read_abi_model(tmp_path / "a.ckpt", config())
    assert model.step == 7
    assert model.all_finite()
    assert model.first_moments is not None
    assert model.second_moments is not None
    assert_named(model.weights, weights, tied=True)
    assert_named(model.first_moments, first, tied=True)
    assert_named(model.second_moments, second, tied=True)


@pytest.mark.parametrize("name", [b"model_checkpoint", b"brain_export"])
def test_weights_in_a_container(tmp_path: Path, name: bytes) -> None:
    weights = Weights()
    (tmp_path / "a.wdbx").write_bytes(container(weights.flat, name))
    model = read_abi_model(tmp_path / "a.wdbx", config())
    assert_named(model.weights, weights, tied=True)
    assert (model.step, model.first_moments) == (None, None)


TIED, UNTIED = Weights(tied=True).flat, Weights(tied=False).flat


@pytest.mark.parametrize(
    ("content", "tied", "words"),
    [
        (abic(TIED[:-1]), True, f"ConfigMismatch: weights: got {TIED.size - 1:,}, but vocabulary"),
        (abic(TIED), False, "it fits if the embedding is tied"),
        (abic(UNTIED), True, "it fits if the embedding is not tied"),
        (abic(UNTIED[:1]), True, f"not tied to the output need {UNTIED.size:,}"),
        (ablc(TIED, TIED[1:], TIED), True, "ConfigMismatch: first moments: got"),
        (ablc(TIED, TIED, TIED[:0]), True, "ConfigMismatch: second moments: got 0"),
        (abic(TIED)[:-1], True, "EndOfData"),
        (container(TIED[1:], b"model_checkpoint"), True, "ConfigMismatch: weights: got"),
        (b"nothing known", True, "InvalidFormat"),
        (b"", True, "EndOfData"),
        (
            FileV3([Section(METADATA, name_of(b"")), Section(VECTORS, b"")]).to_bytes(),
            True, "holds no weights",
        ),
        (
            FileV3(
                [Section(METADATA, name_of(b"")), Section(VECTORS, record(0, [1.0], block([1])))],
                1, 1,
            ).to_bytes(),
            True, "holds no weights",
        ),
    ],
)  # fmt: skip
def test_what_does_not_fit(tmp_path: Path, content: bytes, tied: bool, words: str) -> None:
    (tmp_path / "a.ckpt").write_bytes(content)
    if "not tied to" in words:
        tied = False
    with pytest.raises(tempra.FormatError) as raised:
        import_abi_model(tmp_path / "a.ckpt", tmp_path / "out", config(tied=tied))
    assert words in str(raised.value)
    assert str(tmp_path / "a.ckpt") in str(raised.value)
    assert [path.name for path in tmp_path.iterdir()] == ["a.ckpt"]


def test_only_llama_models(tmp_path: Path) -> None:
    other = TransformerConfig.for_family(
        "gpt2", vocab_size=8, width=8, layers=1, heads=2, context=8
    )
    (tmp_path / "a.ckpt").write_bytes(abic(TIED))
    with pytest.raises(tempra.ConfigError, match="family: got gpt2"):
        read_abi_model(tmp_path / "a.ckpt", other)


def test_an_existing_folder_and_a_failing_write(tmp_path: Path) -> None:
    (tmp_path / "a.ckpt").write_bytes(abic(TIED))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("stays")
    with pytest.raises(FileExistsError, match="exists already"):
        import_abi_model(tmp_path / "a.ckpt", tmp_path / "out", config())
    for operation in range(6):
        _core.set_write_fault(operation, 28, short_write=True, persistent=True)
        try:
            with pytest.raises(tempra.IoError):
                import_abi_model(tmp_path / "a.ckpt", tmp_path / "new", config())
        finally:
            _core.clear_write_fault()
        assert sorted(path.name for path in tmp_path.iterdir()) == ["a.ckpt", "out"]


# The command


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    code = main([str(argument) for argument in arguments])
    shown = capsys.readouterr()
    return code, shown.out, shown.err


@pytest.mark.parametrize("tied", [True, False])
def test_the_command_generating_and_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], tied: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    weights = Weights(tied=tied)
    Path("a.ckpt").write_bytes(ablc(weights.flat, weights.flat, weights.flat))
    save_tokenizer(ByteTokenizer(), tmp_path)
    code, out, err = run(
        capsys, "data", "import-weights", "a.ckpt", "model", *OPTIONS,
        "--tokenizer", tmp_path, "--context", 32,
    )  # fmt: skip
    assert code == 0, err
    kind = "the embedding is also the output" if tied else "an output of its own"
    assert f"model: wrote {20 + (not tied)} tensors, {weights.flat.size:,} weights; {kind}" in out
    assert "Adam's moments were left out" in out
    assert json.loads(Path("model/config.json").read_text())["tie_word_embeddings"] is tied
    assert load_trained_model("model").model.config == config(tied=tied)
    code, out, err = run(
        capsys, "generate", "--checkpoint", "model", "--prompt", "ab", "--max-tokens", 3
    )
    assert code == 0, err
    # The command that was printed starts training from these weights.
    command = run(
        capsys, "data", "import-weights", "a.ckpt", "again", *OPTIONS,
        "--tokenizer", tmp_path, "--context", 32,
    )[1].splitlines()[-1].removeprefix("train it with: tempra ")  # fmt: skip
    Path("book.txt").write_text("some text to learn from. " * 40)
    code, _, err = run(
        capsys, *command.split(), "data.train=book.txt", "train.steps=1", "train.batch_size=1",
        "train.block=16", "checkpoint.dir=tuned",
    )  # fmt: skip
    assert code == 0, err


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ([], 2, "--width"),
        ([*OPTIONS], 2, "--vocab-size: needed where no --tokenizer says it"),
        ([*OPTIONS, "--vocab-size", 256], 1, "a.ckpt: ConfigMismatch: weights: got"),
        ([*OPTIONS, "--vocab-size", 0], 2, "--vocab-size: got 0"),
        ([*OPTIONS, "--vocab-size", 257, "--no-tie-embeddings"], 1, "if the embedding is tied"),
        ([*OPTIONS[:-6], "--heads", 3, "--feed-forward", 24, "--vocab-size", 257], 2, "heads: got"),
    ],
)
def test_wrong_options(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[object],
    code: int,
    words: str,
) -> None:
    (tmp_path / "a.ckpt").write_bytes(abic(TIED))
    got, _, err = run(
        capsys, "data", "import-weights", tmp_path / "a.ckpt", tmp_path / "out", *arguments
    )
    assert (got, err.count("\n")) == (code, 1)
    assert words in err
    assert not (tmp_path / "out").exists()


def test_a_missing_source_and_weights_that_are_not_finite(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [tmp_path / "a.ckpt", tmp_path / "out", *OPTIONS, "--vocab-size", VOCAB]
    code, _, err = run(capsys, "data", "import-weights", *arguments)
    assert code == 1
    assert "no such file" in err
    broken = TIED.copy()
    broken[5] = np.nan
    (tmp_path / "a.ckpt").write_bytes(abic(broken))
    code, out, _ = run(capsys, "data", "import-weights", *arguments)
    assert code == 0
    assert "some weights are NaN or infinite" in out
    assert "without a tokenizer: it cannot write text" in out
