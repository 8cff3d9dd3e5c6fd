"""The op table: every operation of tempra.ops, what it should give, and what it should refuse.

The value, gradient, second-order, ISA, layout, thread and error suites all run over it. An
operation that is exported and not in the table fails test_op_values.py.
"""

import op_cases_elementwise
import op_cases_fused
import op_cases_layout
import op_cases_reductions
import op_cases_rows
from op_case import OpCase

CASES: list[OpCase] = [
    *op_cases_elementwise.CASES,
    *op_cases_reductions.CASES,
    *op_cases_layout.CASES,
    *op_cases_rows.CASES,
    *op_cases_fused.CASES,
]

DIFFERENTIABLE = [case for case in CASES if case.differentiable and case.inputs]


def identifiers(cases: list[OpCase]) -> list[str]:
    return [case.id for case in cases]


def with_dtypes(cases: list[OpCase], dtypes: tuple[str, ...]) -> list[tuple[OpCase, str]]:
    return [(case, dtype) for case in cases for dtype in dtypes if dtype in case.dtypes]
