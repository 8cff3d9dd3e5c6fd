"""How the tokens of a data set become training rows, and in which order these are read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from tempra._core import ConfigError
from tempra.data.sequence_packer import OVERLONG, STRATEGIES, Overlong, Strategy

Mode = Literal["blocks", "random"]
Order = Literal["shuffled", "sequential", "shortest_first"]
ORDERS: tuple[Order, ...] = get_args(Order)

# Some 200 million tokens, whose plan has about 20 MB.
PART_DOCUMENTS = 1 << 20
_SHUFFLED_WINDOW = 1024


@dataclass(frozen=True)
class RowOptions:
    """As `DataLoader` takes them; raises ConfigError for what cannot go together."""

    mode: Mode = "blocks"
    packing: Strategy | None = None
    order: Order = "shuffled"
    overlong: Overlong = "split"
    window: int | None = None
    longest_first: bool = False
    pad_token: int | None = None
    part_documents: int = PART_DOCUMENTS

    def __post_init__(self) -> None:
        """Check."""
        if self.mode not in ("blocks", "random"):
            raise ConfigError(f"data loader: got mode {self.mode!r}, needs 'blocks' or 'random'")
        if self.order not in ORDERS:
            raise ConfigError(
                f"data loader: got order {self.order!r}, needs one of {', '.join(ORDERS)}"
            )
        if self.packing is not None and self.mode != "blocks":
            raise ConfigError(
                f"data loader: got mode {self.mode!r} with packing {self.packing!r}; packed rows "
                "hold whole documents and start at none but their beginning"
            )
        check_order(self.order, self.mode, self.packing, "data loader: ")
        if self.longest_first and self.order != "shuffled":
            raise ConfigError(
                f"data loader: got longest_first with order {self.order!r}; give one of the two"
            )

    @property
    def resolved_window(self) -> int:
        """Open rows of `streaming`; one where the order of the documents is to be kept."""
        if self.window is not None:
            return self.window
        return _SHUFFLED_WINDOW if self.order == "shuffled" else 1

    def state_dict(self) -> dict[str, int]:
        """Return what decides the rows, as integers."""
        state = {"random": int(self.mode == "random")}
        if self.order != "shuffled":
            state["order"] = ORDERS.index(self.order)
        if self.packing is not None:
            state |= {
                "packing": STRATEGIES.index(self.packing),
                "overlong": OVERLONG.index(self.overlong),
                "window": self.resolved_window,
                "longest_first": int(self.longest_first),
                "pad_token": -1 if self.pad_token is None else self.pad_token,
                "part_documents": self.part_documents,
            }
        return state


def check_order(order: Order, mode: Mode, packing: Strategy | None, prefix: str) -> None:
    """Raise ConfigError for an order that the rows cannot have."""
    if order == "shuffled":
        return
    if mode == "random":
        raise ConfigError(
            f"{prefix}got order {order!r} with mode 'random', whose sequences start anywhere; "
            "use mode 'blocks'"
        )
    if packing == "best_fit":
        raise ConfigError(
            f"{prefix}got order {order!r} with packing 'best_fit', which puts together what fits; "
            "streaming, concat and none keep the order"
        )
    if order == "shortest_first" and packing is None:
        raise ConfigError(
            f"{prefix}got order 'shortest_first' without packing, so sequences are cut from all "
            "of the text and equally long; use packing streaming, concat or none"
        )
