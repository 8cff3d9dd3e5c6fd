"""The op table at realistic sizes, for comparing bf16 errors with PyTorch's: see bf16_accuracy.py.

An operation is in it or in the list of those without a counterpart.
"""

import accuracy_cases_elementwise
import accuracy_cases_fused
import accuracy_cases_layout
import accuracy_cases_products
import accuracy_cases_reductions
import accuracy_cases_rows
from op_case import OpCase

CASES: list[OpCase] = [
    *accuracy_cases_elementwise.CASES,
    *accuracy_cases_reductions.CASES,
    *accuracy_cases_layout.CASES,
    *accuracy_cases_rows.CASES,
    *accuracy_cases_products.CASES,
    *accuracy_cases_fused.CASES,
]

_NOT_ROUNDED = "gives truth values or indices; test_op_values.py holds them exactly"
_CREATED = "has no bf16 input; test_created_numbers_are_rounded_once holds it to the f32 result"
_RANDOM = "draws from a stream of its own; " + _CREATED.split("; ")[1]

# Operations without a line above, and why. None may be missing from both.
WITHOUT_COUNTERPART: dict[str, str] = {
    **dict.fromkeys(
        (
            *("equal", "not_equal", "less", "less_equal", "greater", "greater_equal"),
            *("logical_and", "logical_or", "logical_xor", "logical_not", "is_nan", "is_finite"),
            *("argmax", "argmin", "argsort", "categorical"),
        ),
        _NOT_ROUNDED,
    ),
    **dict.fromkeys(("zeros", "zeros_like", "ones", "full", "arange"), _CREATED),
    **dict.fromkeys(("empty", "empty_like"), "holds no values"),
    **dict.fromkeys(("uniform", "uniform_", "normal", "normal_"), _RANDOM),
    "dropout": "drops other elements than PyTorch's stream; "
    "test_dropout_is_rounded_once holds the kept ones to half a unit",
}
