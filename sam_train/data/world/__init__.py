"""Procedural images with exact masks: ``ToySource`` draws any of ``DOMAINS`` from a seed."""

from sam_train.data.world.source import DOMAINS, ToyImages, ToySource

__all__ = ["DOMAINS", "ToyImages", "ToySource"]
