"""Procedural images with exact masks: ``ToyData`` draws any of ``DOMAINS`` from a seed."""

from sam_train.data.toy.source import DOMAINS, ToyData, ToySource

__all__ = ["DOMAINS", "ToyData", "ToySource"]
