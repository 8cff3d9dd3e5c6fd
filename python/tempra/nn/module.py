"""The base of all layers: parameters and sub-layers are found among the attributes, in order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from tempra import _core
from tempra._core import DType, ShapeError, Tensor


class Parameter(Tensor):
    """A tensor that training changes. Shares the memory of the tensor it is made from."""

    def __init__(self, values: Tensor) -> None:
        super().__init__(values)
        if _core.is_enabled():
            self.requires_grad = True


class Module:
    """A layer. Attributes that are a `Parameter` or a `Module` belong to it, in definition order.

    Subclasses define `forward`; calling the module runs it. Optional parts are None.
    """

    training: bool = True

    def forward(self, *arguments: Any, **options: Any) -> Any:
        """Compute the layer's output."""
        raise NotImplementedError(f"{type(self).__name__} defines no forward")

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        """Run `forward`."""
        return self.forward(*arguments, **options)

    def children(self) -> Iterator[tuple[str, Module]]:
        """Yield the modules that are attributes of this one, by attribute name."""
        for name, value in vars(self).items():
            if isinstance(value, Module):
                yield name, value

    def named_modules(self, prefix: str = "") -> Iterator[tuple[str, Module]]:
        """Yield this module and everything below it, by dotted path."""
        yield prefix, self
        for name, child in self.children():
            yield from child.named_modules(f"{prefix}.{name}" if prefix else name)

    def named_parameters(self) -> list[tuple[str, Parameter]]:
        """Return every parameter once, by dotted path; a shared one under its first name."""
        found: list[tuple[str, Parameter]] = []
        seen: set[int] = set()
        for path, module in self.named_modules():
            for name, value in vars(module).items():
                if isinstance(value, Parameter) and hash(value) not in seen:
                    seen.add(hash(value))
                    found.append((f"{path}.{name}" if path else name, value))
        return found

    def parameters(self) -> list[Parameter]:
        """Return every parameter once."""
        return [parameter for _, parameter in self.named_parameters()]

    def parameter_count(self) -> int:
        """Return the number of elements of all parameters."""
        return sum(parameter.numel() for parameter in self.parameters())

    def train(self, mode: bool = True) -> Module:
        """Switch dropout and the like on (or off) here and below."""
        for _, module in self.named_modules():
            module.training = mode
        return self

    def eval(self) -> Module:
        """Switch dropout and the like off."""
        return self.train(False)

    def requires_grad_(self, value: bool = True) -> Module:
        """Freeze (False) or unfreeze all parameters."""
        for parameter in self.parameters():
            parameter.requires_grad = value
        return self

    def tensors(self) -> Iterator[Tensor]:
        """Yield every tensor that this module itself holds, parameters and tables alike."""
        for value in vars(self).values():
            if isinstance(value, Tensor):
                yield value

    def to(self, device: str) -> Module:
        """Move all tensors to a device, in place; to be done while no optimizer has them.

        Raises TempraError for parameters in the arena of an optimizer still alive and where memory
        does not suffice; whatever is raised, nothing has moved.
        """
        modules = (module for _, module in self.named_modules())
        _core.move_([tensor for module in modules for tensor in module.tensors()], device)
        return self

    def place_matrices(self, dtype: DType) -> None:
        """Move all matrices into one buffer of `dtype`, in order and without gradients.

        For inference: products then read half the bytes in bf16, and matrices that are used
        together (q, k, v) as one. In bf16 results stay what bf16 activations make of f32 weights.
        """
        matrices = [each for each in self.parameters() if len(each.shape) == 2]
        device = matrices[0].device if matrices else "cpu"
        buffer = _core.empty((sum(each.numel() for each in matrices),), dtype, device)
        placed: dict[int, Parameter] = {}
        start = 0
        for matrix in matrices:
            with _core.no_grad():
                values = buffer.narrow(0, start, matrix.numel()).reshape(matrix.shape)
                values.copy_(matrix)
                placed[hash(matrix)] = Parameter(values)
            placed[hash(matrix)].requires_grad = False
            start += matrix.numel()
        for _, module in self.named_modules():
            for name, value in vars(module).items():
                if isinstance(value, Parameter) and hash(value) in placed:
                    setattr(module, name, placed[hash(value)])

    def state_dict(self) -> dict[str, Tensor]:
        """Return the parameters by name; they share memory with the module."""
        return {name: parameter.detach() for name, parameter in self.named_parameters()}

    def load_state_dict(self, tensors: Mapping[str, Tensor]) -> None:
        """Copy parameters by name; raises ShapeError listing what is missing, extra or unlike."""
        own = dict(self.named_parameters())
        problems = [f"{name} is missing" for name in own if name not in tensors]
        problems += [f"{name} is not in the module" for name in tensors if name not in own]
        problems += [
            f"{name} has shape {tensors[name].shape}, needs {parameter.shape}"
            for name, parameter in own.items()
            if name in tensors and tensors[name].shape != parameter.shape
        ]
        if problems:
            raise ShapeError("load_state_dict: " + "; ".join(problems))
        with _core.no_grad():
            for name, parameter in own.items():
                parameter.copy_(tensors[name])
