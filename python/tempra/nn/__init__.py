"""Layers: parameters with a shape and a name, and the one operation they feed."""

from tempra.nn.attention import SelfAttention
from tempra.nn.container import ModuleList
from tempra.nn.dropout import Dropout
from tempra.nn.embedding import Embedding
from tempra.nn.feed_forward import GeluFeedForward, SwigluFeedForward
from tempra.nn.linear import Linear, LinearGroup
from tempra.nn.module import Module, Parameter
from tempra.nn.normalization import LayerNorm, RmsNorm
from tempra.nn.rotary import RotaryTables

__all__ = [
    "Dropout",
    "Embedding",
    "GeluFeedForward",
    "LayerNorm",
    "Linear",
    "LinearGroup",
    "Module",
    "ModuleList",
    "Parameter",
    "RmsNorm",
    "RotaryTables",
    "SelfAttention",
    "SwigluFeedForward",
]
