"""Bad input raises the right exception, whose message names the operation's data."""

import pytest

import tempra
from op_case import ErrorCase
from op_errors import CASES
from tempra import ops


@pytest.mark.parametrize("case", CASES, ids=[case.id for case in CASES])
def test_bad_input_is_named(case: ErrorCase) -> None:
    with pytest.raises(case.error) as raised:
        case.call()
    missing = [word for word in case.words if word not in str(raised.value)]
    assert not missing, f"{str(raised.value)!r} does not say {missing}"


def test_error_identifiers_are_unique() -> None:
    names = [case.id for case in CASES]
    assert len(names) == len(set(names))


def test_error_lines_name_exported_operations() -> None:
    assert {case.op for case in CASES} <= set(ops.__all__)


@pytest.mark.parametrize(
    ("error", "builtin"),
    [
        (tempra.ShapeError, ValueError),
        (tempra.DtypeError, TypeError),
        (tempra.ConfigError, ValueError),
        (tempra.FormatError, ValueError),
        (tempra.DeviceError, RuntimeError),
        (tempra.CheckpointError, RuntimeError),
        (tempra.TrainingDisabled, RuntimeError),
        (tempra.IoError, OSError),
    ],
)
def test_errors_are_tempra_errors_and_builtin_ones(
    error: type[Exception], builtin: type[Exception]
) -> None:
    assert issubclass(error, tempra.TempraError)
    assert issubclass(error, builtin)


def test_arguments_of_a_wrong_type_are_a_type_error() -> None:
    with pytest.raises(TypeError):
        ops.exp("three")
    with pytest.raises(TypeError):
        ops.matmul(tempra.zeros(3), [1.0, 2.0, 3.0])
    with pytest.raises(TypeError):
        ops.softmax(tempra.zeros(3), dimension=0)
