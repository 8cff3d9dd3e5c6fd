"""The operations in NumPy f64, as plainly as possible: the oracles of the op table."""

import math

import numpy as np

erf = np.vectorize(math.erf, otypes=[np.float64])


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def silu(x):
    return x * sigmoid(x)


def gelu(x):
    return 0.5 * x * (1 + erf(x / math.sqrt(2)))


def gelu_tanh(x):
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


ACTIVATIONS = {
    "none": lambda x: x,
    "relu": lambda x: np.maximum(x, 0),
    "silu": silu,
    "gelu": gelu,
    "gelu_tanh": gelu_tanh,
}


def log_sum_exp(x, axis=None, keepdims=False):
    shift = x.max(axis, keepdims=True)
    total = np.log(np.exp(x - shift).sum(axis, keepdims=True)) + shift
    return total if keepdims else total.reshape(x.sum(axis).shape)


def log_softmax(x, axis=-1):
    return x - log_sum_exp(x, axis, True) if x.size else x


def softmax(x, axis=-1):
    return np.exp(log_softmax(x, axis))


def layer_norm(x, weight=1.0, bias=0.0, epsilon=1e-5):
    centered = x - x.mean(-1, keepdims=True)
    return centered / np.sqrt((centered**2).mean(-1, keepdims=True) + epsilon) * weight + bias


def rms_norm(x, weight=1.0, epsilon=1e-6):
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + epsilon) * weight


def sort(x, axis=-1, descending=False, count=None):
    order = np.argsort(-x if descending else x, axis=axis, kind="stable")
    if count is not None:
        order = np.take(order, range(count), axis=axis)
    return np.take_along_axis(x, order, axis), order


def scatter(x, axis, index, source, *, add):
    result = x.copy()
    for position in np.ndindex(index.shape):
        target = list(position)
        target[axis] = index[position]
        result[tuple(target)] = source[position] + (result[tuple(target)] if add else 0)
    return result


def cumsum(x, axis, reverse=False):
    if reverse:
        return np.flip(np.cumsum(np.flip(x, axis), axis), axis)
    return np.cumsum(x, axis)


def linear(x, weight, bias=0.0, residual=0.0, activation="none"):
    return ACTIVATIONS[activation](x @ weight.T + bias) + residual


def cross_entropy(
    logits, labels, ignore_index=-100, label_smoothing=0.0, z_loss=0.0, reduction="mean"
):
    log_probabilities = log_softmax(logits)
    valid = labels != ignore_index
    safe = np.where(valid, labels, 0)
    nll = -np.take_along_axis(log_probabilities, safe[..., None], -1)[..., 0]
    losses = (1 - label_smoothing) * nll - label_smoothing * log_probabilities.mean(-1)
    losses = losses + z_loss * log_sum_exp(logits, -1) ** 2
    losses = np.where(valid, losses, 0)
    if reduction == "none":
        return losses
    return losses.sum() / (max(valid.sum(), 1) if reduction == "mean" else 1)


def rotary(x, positions, cosines, sines, interleaved=False):
    half = cosines.shape[1]
    c = cosines.astype(np.float64)[positions][:, None, :]
    s = sines.astype(np.float64)[positions][:, None, :]
    result = x.copy()
    first, second = (
        (slice(0, 2 * half, 2), slice(1, 2 * half, 2))
        if interleaved
        else (slice(0, half), slice(half, 2 * half))
    )
    a, b = x[..., first], x[..., second]
    result[..., first] = a * c - b * s
    result[..., second] = a * s + b * c
    return result


def attention(q, k, v, offsets_q=None, offsets_k=None, causal=True, scale=None, window=0):
    """One sequence after another, one head after another."""
    if q.ndim == 4:
        rows = [
            attention(a, b, c, None, None, causal, scale, window)
            for a, b, c in zip(q, k, v, strict=True)
        ]
        return np.stack(rows)
    offsets_q = [0, len(q)] if offsets_q is None else offsets_q
    offsets_k = [0, len(k)] if offsets_k is None else offsets_k
    scale = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
    group = q.shape[1] // k.shape[1]
    out = np.zeros_like(q)
    for sequence in range(len(offsets_q) - 1):
        rows = slice(offsets_q[sequence], offsets_q[sequence + 1])
        columns = slice(offsets_k[sequence], offsets_k[sequence + 1])
        count_q, count_k = rows.stop - rows.start, columns.stop - columns.start
        last = np.arange(count_q)[:, None] + count_k - count_q  # the key at each query's own place
        keys = np.arange(count_k)[None, :]
        visible = np.ones((count_q, count_k), bool)
        if causal:
            visible &= keys <= last
        if window:
            visible &= keys > last - window
        for head in range(q.shape[1]):
            scores = q[rows, head] @ k[columns, head // group].T * scale
            weights = np.where(visible, np.exp(np.where(visible, scores, 0)), 0)
            total = weights.sum(-1, keepdims=True)
            weights = np.divide(weights, total, out=np.zeros_like(weights), where=total > 0)
            out[rows, head] = weights @ v[columns, head // group]
    return out


def attention_qkv(qkv, offsets, heads, kv_heads, head_dim, **options):
    split = qkv.reshape(len(qkv), heads + 2 * kv_heads, head_dim)
    q, k, v = np.split(split, [heads, heads + kv_heads], 1)
    return attention(q, k, v, offsets, offsets, **options).reshape(len(qkv), heads * head_dim)


def philox_words(shape, seed, step=0, ordinal=0, row_offset=0, per_row=None):
    """Philox4x32-10 words [rows, elements]: key = seed, counter = (element / 4, row, ordinal,
    step), word element % 4."""
    rows = 1 if len(shape) < 2 else shape[0]
    columns = int(np.prod(shape)) // max(rows, 1) if per_row is None else per_row
    blocks = -(-columns // 4)
    counter = np.zeros((rows, blocks, 4), np.uint64)
    counter[..., 0] = np.arange(blocks)[None, :]
    counter[..., 1] = np.arange(rows)[:, None] + row_offset
    counter[..., 2] = ordinal
    counter[..., 3] = step
    low = np.uint64(0xFFFFFFFF)
    key0, key1 = seed & 0xFFFFFFFF, seed >> 32
    c0, c1, c2, c3 = (counter[..., i] for i in range(4))
    for _ in range(10):
        product0, product1 = np.uint64(0xD2511F53) * c0, np.uint64(0xCD9E8D57) * c2
        c0, c1, c2, c3 = (
            (product1 >> np.uint64(32)) ^ c1 ^ np.uint64(key0),
            product1 & low,
            (product0 >> np.uint64(32)) ^ c3 ^ np.uint64(key1),
            product0 & low,
        )
        key0, key1 = (key0 + 0x9E3779B9) & 0xFFFFFFFF, (key1 + 0xBB67AE85) & 0xFFFFFFFF
    return np.stack([c0, c1, c2, c3], -1).reshape(rows, blocks * 4)[:, :columns]


def uniform(shape, low, high, **key):
    unit = (philox_words(shape, **key) >> np.uint64(8)).astype(np.float64) * 2.0**-24
    return (low + (high - low) * unit).reshape(shape)


def normal(shape, mean, deviation, **key):
    """Box-Muller on the two words of a pair."""
    rows = 1 if len(shape) < 2 else shape[0]
    columns = int(np.prod(shape)) // max(rows, 1)
    words = philox_words(shape, per_row=columns + columns % 2, **key)
    unit = (words >> np.uint64(8)).astype(np.float64) * 2.0**-24
    radius = np.sqrt(-2 * np.log(unit[:, 0::2] + 2.0**-24))
    angle = 2 * np.pi * unit[:, 1::2]
    pairs = np.stack([radius * np.cos(angle), radius * np.sin(angle)], -1)
    return (mean + deviation * pairs.reshape(rows, columns + columns % 2)[:, :columns]).reshape(
        shape
    )


def dropout(x, probability, **key):
    threshold = np.uint64(int(probability * 2**32 + 0.5))
    keep = philox_words(x.shape, **key) >= threshold
    return x * keep.reshape(x.shape) / (1 - probability)


def categorical(logits, **key):
    """Inverse distribution function at 53 random bits a row."""
    rows = logits.reshape(-1, logits.shape[-1])
    words = philox_words((len(rows), 4) if len(rows) > 1 else (1, 4), **key)
    bits = (words[:, 0] << np.uint64(32)) | words[:, 1]
    unit = (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53
    sums = np.cumsum(np.exp(rows - rows.max(-1, keepdims=True)), -1)
    return (sums <= unit[:, None] * sums[:, -1:]).sum(-1).reshape(logits.shape[:-1])
