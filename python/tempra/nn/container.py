"""Modules in a row."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from tempra.nn.module import Module


class ModuleList(Module):
    """Modules by number; their parameters are named "0.…", "1.…" and so on."""

    def __init__(self, modules: Iterable[Module] = ()) -> None:
        self._items = list(modules)

    def children(self) -> Iterator[tuple[str, Module]]:
        """Yield the modules by their number."""
        for index, module in enumerate(self._items):
            yield str(index), module

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, index: int) -> Module:
        return self._items[index]

    def __iter__(self) -> Iterator[Module]:
        return iter(self._items)
