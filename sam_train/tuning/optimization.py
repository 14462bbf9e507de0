"""AdamW and its schedule: how fast each parameter learns, and when."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from sam_train.errors import InputError
from sam_train.models.promptable import PromptableModel


@dataclass(frozen=True)
class Optimization:
    """AdamW with warm-up and cosine decay.

    Attributes:
        lr: Peak learning rate.
        weight_decay: Weight decay of matrices; norms, biases, embeddings and position tables have none.
        betas: Betas of AdamW.
        warmup: Fraction of all steps over which the rate rises from 0.
        final_lr: Rate at the end of the cosine, as a fraction of the peak.
        layer_decay: Factor between the rates of a block of the image encoder and the block after it; the last block
            learns at ``lr`` (Clark et al. 2020, Bao et al. 2021). 1 is the same rate for all.
    """

    lr: float = 1e-4
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.999)
    warmup: float = 0.05
    final_lr: float = 0.01
    layer_decay: float = 1.0

    def __post_init__(self) -> None:
        if self.lr <= 0 or self.weight_decay < 0:
            raise InputError(
                f"optim.lr={self.lr}, optim.weight_decay={self.weight_decay}: the rate must be above 0, and weight "
                "decay at least 0"
            )
        if not 0 < self.layer_decay <= 1:
            raise InputError(f"optim.layer_decay={self.layer_decay}: it must be above 0 and at most 1")
        if not 0 <= self.warmup < 1:
            raise InputError(f"optim.warmup={self.warmup}: it is a fraction of all steps, at least 0 and below 1")

    def optimizer(self, model: PromptableModel) -> torch.optim.AdamW:
        """Return AdamW over the trainable parameters, in groups of equal rate and decay.

        Raises:
            InputError: If there is layer decay and the image encoder declares no layer groups.
        """
        depth, undecayed = self._depths(model), _undecayed(model)
        groups: dict[tuple[float, float], list[nn.Parameter]] = {}
        for parameter in model.parameters():
            if parameter.requires_grad:
                scale = self.layer_decay ** depth.get(id(parameter), 0)
                decay = 0.0 if id(parameter) in undecayed else self.weight_decay
                groups.setdefault((self.lr * scale, decay), []).append(parameter)
        settings = [{"params": params, "lr": lr, "weight_decay": decay} for (lr, decay), params in groups.items()]
        return torch.optim.AdamW(settings, lr=self.lr, betas=self.betas)

    def _depths(self, model: PromptableModel) -> dict[int, int]:
        """Return, by the id of each parameter in a layer group, how many groups come after its own."""
        groups = model.image_encoder.layer_groups()
        if self.layer_decay < 1 and not groups:
            raise InputError(
                f"optim.layer_decay={self.layer_decay}: the image encoder {type(model.image_encoder).__name__} "
                "declares no layer groups, so that nothing would be slowed; use optim.layer_decay=1"
            )
        return {id(parameter): depth for depth, group in enumerate(reversed(groups)) for parameter in group}

    def schedule(self, optimizer: torch.optim.Optimizer, num_steps: int) -> LambdaLR:
        """Return a linear warm-up followed by a cosine down to ``final_lr``, where the rate then stays.

        Torch's LinearLR, CosineAnnealingLR and SequentialLR cannot say this: the cosine ends at one absolute rate for
        all groups, so that layer decay would fade on the way down, and rises again after its last step.

        Args:
            optimizer: What :meth:`optimizer` returned.
            num_steps: Horizon: the number of steps from the start of the warm-up to the end of the cosine. A run that
                is resumed with more steps keeps the horizon it began with; another one would make the rate jump.
        """
        num_warmup = round(self.warmup * num_steps)

        def factor(step: int) -> float:
            if step < num_warmup:
                return (step + 1) / (num_warmup + 1)
            progress = min((step - num_warmup) / max(num_steps - num_warmup, 1), 1.0)
            return self.final_lr + (1 - self.final_lr) * (1 + math.cos(math.pi * progress)) / 2

        return LambdaLR(optimizer, factor)


def _undecayed(model: PromptableModel) -> set[int]:
    """Return the ids of the parameters without weight decay: vectors, embeddings and what the model declares."""
    vectors = [parameter for parameter in model.parameters() if parameter.ndim < 2]
    embeddings = [module.weight for module in model.modules() if isinstance(module, nn.Embedding)]
    return {id(parameter) for parameter in (*vectors, *embeddings, *model.undecayed_parameters())}
