"""One source of a mixture, an entry of `data.sources`."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from tempra.data.instruction_formats import FormatName
from tempra.data.loss_mask import TrainOn
from tempra.data.row_options import Order
from tempra.data.sequence_packer import Overlong, Strategy
from tempra.train.config_section import Section
from tempra.train.config_values import Fraction, Names, Positive

EntryName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_-]*$", max_length=60)]

_AS_ABOVE = "As the setting of data with this name, for this source. Default: that of data."


class SourceConfig(Section):
    """What is read, how much of it, and how; all sources share one tokenizer and template."""

    name: EntryName = Field(description="Its name in reports: letters, digits, - and _.")
    train: Names = Field(
        min_length=1,
        description="Text to learn from, as data.train: files, folders, patterns, or one folder "
        "written by `tempra data prepare`.",
    )
    weight: Positive | None = Field(
        default=None,
        description="Its part of the training sequences, in any unit: 3 beside 1 is three of four. "
        "Default: by data.temperature.",
    )
    validation: Names = Field(
        default=(), description="Text to measure on. Default: a part of this source's train."
    )
    validation_fraction: Fraction | None = Field(default=None, description=_AS_ABOVE)
    text_field: str | None = Field(default=None, min_length=1, description=_AS_ABOVE)
    suffixes: Names | None = Field(default=None, min_length=1, description=_AS_ABOVE)
    separator: str | None = Field(default=None, min_length=1, description=_AS_ABOVE)
    format: FormatName | None = Field(default=None, description=_AS_ABOVE)
    train_on: TrainOn | None = Field(default=None, description=_AS_ABOVE)
    skip_bad_lines: Annotated[int, Field(ge=0)] | None = Field(default=None, description=_AS_ABOVE)
    packing: Strategy | None = Field(default=None, description=_AS_ABOVE)
    overlong: Overlong | None = Field(default=None, description=_AS_ABOVE)
    order: Order | None = Field(default=None, description=_AS_ABOVE)
