"""Optimizers, learning-rate schedules, and clipping of gradients outside an arena."""

from tempra._core import clip_grad_norm_, clip_grad_value_, gradient_norm
from tempra.optim.adamw import AdamW
from tempra.optim.lr_schedule import LearningRateSchedule

__all__ = ["AdamW", "LearningRateSchedule", "clip_grad_norm_", "clip_grad_value_", "gradient_norm"]
