"""Optimizers, learning-rate schedules, and clipping of gradients outside an arena."""

from tempra._core import clip_grad_norm_, clip_grad_value_, gradient_norm

__all__ = ["clip_grad_norm_", "clip_grad_value_", "gradient_norm"]
