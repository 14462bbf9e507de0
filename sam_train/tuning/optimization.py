"""AdamW and its schedule: which parameters go how fast, and when."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from sam_train.errors import InputError


@dataclass(frozen=True)
class Optimization:
    """AdamW with warm-up and cosine decay.

    Attributes:
        lr: Peak learning rate.
        weight_decay: Of matrices; norms, biases, embeddings and position tables have none.
        betas: AdamW's.
        warmup: Fraction of all steps over which the rate rises from 0.
        final_lr: Where the cosine ends, as a fraction of the peak.
        layer_decay: Each encoder block's rate is this times that of the block above it, the last block's ``lr`` (Clark
            et al. 2020, Bao et al. 2021). 1 is the same rate for all.
    """

    lr: float = 1e-4
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.999)
    warmup: float = 0.05
    final_lr: float = 0.01
    layer_decay: float = 1.0

    def __post_init__(self) -> None:
        if self.lr <= 0 or self.weight_decay < 0:
            raise InputError(f"optim.lr={self.lr}, weight_decay={self.weight_decay}: above 0, and at least 0")
        if not 0 < self.layer_decay <= 1:
            raise InputError(f"optim.layer_decay={self.layer_decay}: above 0 and at most 1")
        if not 0 <= self.warmup < 1:
            raise InputError(f"optim.warmup={self.warmup}: a fraction of all steps, from 0 to below 1")

    def optimizer(self, model: nn.Module) -> torch.optim.AdamW:
        """Over the parameters that train, in groups of equal rate and decay."""
        depth = _depths(model)
        groups: dict[tuple[float, float], list[nn.Parameter]] = {}
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                scale = self.layer_decay ** depth.get(name, 0)
                decay = self.weight_decay if _is_matrix(name, parameter) else 0.0
                groups.setdefault((self.lr * scale, decay), []).append(parameter)
        settings = [{"params": params, "lr": lr, "weight_decay": decay} for (lr, decay), params in groups.items()]
        return torch.optim.AdamW(settings, lr=self.lr, betas=self.betas)

    def schedule(self, optimizer: torch.optim.Optimizer, num_steps: int) -> LambdaLR:
        """Linear warm-up, then a cosine down to ``final_lr``."""
        num_warmup = round(self.warmup * num_steps)

        def factor(step: int) -> float:
            if step < num_warmup:
                return (step + 1) / (num_warmup + 1)
            progress = min((step - num_warmup) / max(num_steps - num_warmup, 1), 1.0)
            return self.final_lr + (1 - self.final_lr) * (1 + math.cos(math.pi * progress)) / 2

        return LambdaLR(optimizer, factor)


def _is_matrix(name: str, parameter: nn.Parameter) -> bool:
    tables = r"pos_embed|rel_pos|embed(dings\.\d+)?\.weight|_tokens?\.weight|attention_biases|no_mem_embed"
    return parameter.ndim >= 2 and not re.search(tables, name)


def _depths(model: nn.Module) -> dict[str, int]:
    """Per parameter of the image encoder, how many blocks lie above it."""
    block = re.compile(r"image_encoder\.(?:trunk\.)?(?:blocks|layers)\.(\d+)\.(?:blocks\.(\d+)\.|(downsample)\.)?")
    stem = re.compile(r"image_encoder\.(?:trunk\.)?(?:patch_embed|pos_embed)")
    place = {}
    for name, _ in model.named_parameters():
        if match := block.match(name):
            stage, number, after_all = match.groups()
            place[name] = (int(stage), math.inf if after_all else int(number or 0))
        elif stem.match(name):
            place[name] = (-1, 0)
    order = {at: index for index, at in enumerate(sorted(set(place.values())))}
    return {name: len(order) - 1 - order[at] for name, at in place.items()}
