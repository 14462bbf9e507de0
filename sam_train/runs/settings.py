"""Everything a run is made of, as plain dataclasses; the defaults are those of the command line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from sam_train.checkpoints.reading import SHIPPED
from sam_train.data.loading.augmentation import Augmentation
from sam_train.data.loading.settings import Loading
from sam_train.data.sources.base import DataSource, Split
from sam_train.losses.sam_loss import SamLoss
from sam_train.prompts.simulator import PromptSimulator
from sam_train.tasks.center_training import CenterTraining
from sam_train.tasks.clip_training import ClipTraining
from sam_train.tuning.optimization import Optimization
from sam_train.tuning.surgery import Tuning


@dataclass(frozen=True)
class ModelChoice:
    """Which model, from which weights.

    Attributes:
        preset: A key of :data:`sam_train.models.PRESETS`.
        weights: A .pth, .safetensors or Hugging Face folder, a hub id, the name of weights that come with the package,
            or ``random``. None for the package's own of that preset.
        image_size: Side of the model's input in pixels; by default the preset's own.
    """

    preset: str = "sam2_nano"
    weights: str | None = None
    image_size: int | None = None

    def source(self) -> str | None:
        """Where weights come from; None if nothing is named and the package has none."""
        return self.weights or (self.preset if self.preset in SHIPPED else None)


@dataclass(frozen=True)
class Evaluation:
    """What is scored after training.

    Attributes:
        split: Which images.
        metrics: Names of :data:`sam_train.metrics.METRICS`, or dotted paths of metrics of one's own.
        protocols: Kinds of prompt, see :func:`sam_train.prompts.protocols.find_protocols`.
        clicks: Of the protocol ``clicks``.
        overlays: How many pictures of images are drawn.
        pictures: How many pictures of the best, of the worst and of the most changed objects are in ``report.html``.
        controls: Whether to score what a filled box, a threshold and another object's box give.
        coco: Whether to compute COCO's AP and AR of the masks from boxes.
        forgetting: How many images of the procedural world both models are scored on.
        corrected_frames: Of clips: on how many frames, one after another, a person clicks three times on what is wrong.
    """

    split: Split = "test"
    metrics: Sequence[str] = ("dice", "iou")
    protocols: Sequence[str] = ("box", "point", "clicks")
    clicks: int = 5
    overlays: int = 4
    pictures: int = 4
    controls: bool = False
    coco: bool = False
    forgetting: int = 0
    corrected_frames: int = 0


@dataclass(frozen=True)
class Cache:
    """What does not train of the image encoder runs once for each image and view, and is kept on disk.

    Attributes:
        folder: Kept from run to run and shared by all.
        views: Of each training image, shown in turn, one an epoch; the first is the image as it is.
        dtype: That features are kept in, ``bfloat16`` or ``float32``.
    """

    folder: str = "outputs/embeddings"
    views: int = 1
    dtype: str = "bfloat16"


TRAINER: Mapping[str, Any] = MappingProxyType(
    {
        "accelerator": "auto",
        "devices": 1,
        "precision": "auto",
        "max_steps": None,
        "max_epochs": -1,
        "val_check_interval": 100,
        "check_val_every_n_epoch": None,
        "accumulate_grad_batches": 1,
        "gradient_clip_val": 1.0,
        "log_every_n_steps": 10,
        "num_sanity_val_steps": 0,
        "enable_model_summary": False,
        "use_distributed_sampler": False,
    }
)
"""Arguments of :class:`lightning.Trainer`.

Two of them mean more here: ``precision=auto`` is bf16-mixed on a GPU that has it, and ``max_steps=None`` without
``max_epochs`` is as many steps as the data source suggests.
"""


@dataclass(frozen=True)
class Settings:
    """A run.

    Attributes:
        data: Images and masks.
        model: What is tuned.
        tuning: How much of it trains.
        prompts: What a simulated person gives the model in training.
        loss: What training lowers.
        optim: How it does so.
        loader: How images are loaded.
        trainer: Arguments of :class:`lightning.Trainer` that differ from :data:`TRAINER`.
        evaluation: What is scored afterwards.
        cache: Where features of a frozen encoder are kept; None to compute them in every step.
        prompter: A head that learns to find objects without a prompt; None for none.
        task: How the model learns to follow objects through clips; None to train it on images.
        seed: Of everything random.
    """

    data: DataSource
    model: ModelChoice = field(default_factory=ModelChoice)
    tuning: Tuning = field(default_factory=lambda: Tuning("lora"))
    prompts: PromptSimulator = field(default_factory=lambda: PromptSimulator(box=1, point=1, corrections=1))
    loss: SamLoss = field(default_factory=lambda: SamLoss(mask=1, focal_alpha=-1, focal_gamma=0))
    optim: Optimization = field(default_factory=Optimization)
    loader: Loading = field(default_factory=lambda: Loading(augmentation=Augmentation()))
    trainer: Mapping[str, Any] = field(default_factory=dict)
    evaluation: Evaluation = field(default_factory=Evaluation)
    cache: Cache | None = None
    prompter: CenterTraining | None = None
    task: ClipTraining | None = None
    seed: int = 0
