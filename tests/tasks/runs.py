"""Small runs of the real task on the real data pipeline, for tests to compare."""

from pathlib import Path

import torch
from lightning import Callback, Trainer

from sam_train.data.loading.augmentation import Augmentation
from sam_train.data.loading.datamodule import SegmentationData
from sam_train.data.loading.settings import Loading
from sam_train.data.sources.base import ImageSet
from sam_train.losses.sam_loss import SamLoss
from sam_train.models import build_model
from sam_train.prompts.simulator import PromptSimulator
from sam_train.tasks.callbacks import BestCheckpoint, LastValidation
from sam_train.tasks.center_training import CenterLearner, CenterTraining, new_head
from sam_train.tasks.image import ImageTask
from sam_train.tasks.resume_point import ResumePoint
from sam_train.tuning.optimization import Optimization
from sam_train.tuning.surgery import Tuning
from tests.data.samples import Squares

SIZE = 64
AUGMENTATION = Augmentation()


class Losses(Callback):
    """Remembers the loss of every step."""

    def __init__(self) -> None:
        self.values: list[float] = []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if trainer.global_step > len(self.values):
            self.values.append(trainer.callback_metrics["train/loss"].item())


def make_data(
    batch_size: int,
    augmentation: Augmentation | None = AUGMENTATION,
    val: ImageSet | None = None,
    with_boxes: bool = False,
) -> SegmentationData:
    source = Squares(num_images=6)
    loading = Loading(batch_size=batch_size, max_objects=3, min_area=4, num_workers=0, augmentation=augmentation)
    splits = {"train": source, "val": val or source}
    return SegmentationData(splits, build_model("sam_nano", SIZE).preprocessing, loading, 0, with_boxes)


def make_task(
    mode="full",
    keep_base=True,
    simulator=None,
    optimization=None,
    preset="sam_nano",
    prompter: CenterTraining | None = None,
    **tuning,
) -> ImageTask:
    torch.manual_seed(0)
    model = build_model(preset, SIZE)
    Tuning(mode, rank=2, **tuning).apply(model)
    simulator = simulator or PromptSimulator(box=1, point=1, corrections=1)
    learner = prompter and CenterLearner(new_head(model, ["square"], 0), prompter, SIZE)
    optimization = optimization or Optimization(warmup=0)
    return ImageTask(model, simulator, SamLoss(), optimization, {"note": "test"}, keep_base, prompter=learner)


def make_trainer(folder: Path, **options) -> Trainer:
    callbacks = [
        LastValidation(),
        BestCheckpoint(folder, "best", monitor="val/iou", enable_version_counter=False),
        ResumePoint(str(folder / "last.ckpt")),
        *options.pop("callbacks", []),
    ]
    defaults = {
        "accelerator": "cpu",
        "devices": 1,
        "max_steps": 4,
        "max_epochs": -1,
        "val_check_interval": 2,
        "check_val_every_n_epoch": None,
        "gradient_clip_val": 1.0,
        "num_sanity_val_steps": 0,
        "use_distributed_sampler": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "log_every_n_steps": 1,
        "logger": False,
    }
    return Trainer(default_root_dir=folder, callbacks=callbacks, **{**defaults, **options})


def weights(task: ImageTask) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in task.model.state_dict().items()}


def head_weights(task: ImageTask) -> dict[str, torch.Tensor]:
    assert task.prompter is not None
    return {name: value.detach().clone() for name, value in task.prompter.state_dict().items()}
