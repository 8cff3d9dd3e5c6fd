"""Linear layers and the loss head beside PyTorch's."""

from collections.abc import Callable
from typing import Any

from accuracy_case import LABELS, WIDTH, f32_or_f64, line, normal, z_loss
from op_case import OpCase
from tempra import ops

ACTIVATIONS: dict[str, Callable[..., Any]] = {
    "none": lambda t, x: x,
    "relu": lambda t, x: t.nn.functional.relu(x),
    "silu": lambda t, x: t.nn.functional.silu(x),
    "gelu": lambda t, x: t.nn.functional.gelu(x),
    "gelu_tanh": lambda t, x: t.nn.functional.gelu(x, approximate="tanh"),
}


def linear_line(
    label: str,
    activation: str = "none",
    *,
    residual: bool = False,
    parameter: bool = False,
    rows: int = 256,
) -> OpCase:
    width, out = 384, 512
    inputs = [
        normal(rows, width),
        normal(out, width, deviation=width**-0.5, parameter=parameter),
        normal(out, deviation=0.1, parameter=parameter),
    ]
    if residual:
        inputs.append(normal(rows, out))

    def torch(t: Any, x: Any, weight: Any, bias: Any, *rest: Any) -> Any:
        y = ACTIVATIONS[activation](t, t.nn.functional.linear(x, weight, bias))
        return rest[0] + y if residual else y

    return line(
        "linear",
        label,
        lambda x, weight, bias, *rest: ops.linear(
            x, weight, bias, activation=activation, residual=rest[0] if residual else None
        ),
        torch,
        tuple(inputs),
    )


def group_line(label: str, parameter: bool) -> OpCase:
    width, outs = 256, (256, 128, 128)

    def torch(t: Any, x: Any, *parameters: Any) -> Any:
        return t.nn.functional.linear(x, t.cat(parameters[:3]), t.cat(parameters[3:]))

    return line(
        "linear_group",
        label,
        lambda x, *parameters: ops.linear_group(x, list(parameters[:3]), list(parameters[3:])),
        torch,
        (
            normal(256, width),
            *[normal(out, width, deviation=width**-0.5, parameter=parameter) for out in outs],
            *[normal(out, deviation=0.1, parameter=parameter) for out in outs],
        ),
    )


def loss_line(label: str, *, bias: bool = False, parameter: bool = False, **options: Any) -> OpCase:
    width, vocabulary = 128, WIDTH
    inputs = [
        normal(256, width),
        normal(vocabulary, width, deviation=2 * width**-0.5, parameter=parameter),
    ]
    if bias:
        inputs.append(normal(vocabulary, parameter=parameter))

    def torch(t: Any, hidden: Any, weight: Any, *rest: Any) -> Any:
        logits = f32_or_f64(t.nn.functional.linear(hidden, weight, rest[0] if bias else None))
        if "z_loss" in options:
            return z_loss(t, logits, rest[-1])
        return t.nn.functional.cross_entropy(logits, rest[-1], **options)

    return line(
        "linear_cross_entropy",
        label,
        lambda hidden, weight, *rest: ops.linear_cross_entropy(
            hidden, weight, rest[-1], bias=rest[0] if bias else None, **options
        ),
        torch,
        tuple(inputs),
        (LABELS,),
    )


CASES = [
    linear_line("bias"),
    *[linear_line(name, name) for name in ACTIVATIONS if name != "none"],
    linear_line("residual", residual=True),
    linear_line("gelu-residual", "gelu_tanh", residual=True),
    linear_line("few-rows", rows=4),
    linear_line("f32-parameters", parameter=True),
    linear_line("gelu-f32-parameters", "gelu_tanh", parameter=True),
    group_line("plain", parameter=False),
    group_line("f32-parameters", parameter=True),
    loss_line("mean"),
    loss_line("bias", bias=True),
    loss_line("sum", reduction="sum"),
    loss_line("none", reduction="none"),
    loss_line("smoothing", label_smoothing=0.1),
    loss_line("z-loss", z_loss=0.01),
    loss_line("f32-parameters", bias=True, parameter=True),
]
