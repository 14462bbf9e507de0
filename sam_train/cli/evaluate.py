"""``sam-evaluate``: a checkpoint beside the model it came from, on held-out masks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from sam_train.cli.compose import run

if TYPE_CHECKING:
    import torch

    from sam_train.data.datamodule import SegmentationData
    from sam_train.models.promptable import PromptableModel


def main() -> None:
    """The command line."""
    run("evaluate", evaluate)


def evaluate(config: DictConfig) -> None:
    """Compare a checkpoint with its base model on a split of any data."""
    import torch
    from hydra.core.hydra_config import HydraConfig

    from sam_train.cli.build import base_model, segmentation_data

    checkpoint = Path(config.checkpoint)
    trained = trained_config(checkpoint)
    if "data" in config:
        trained.data = config.data
    if config.weights is not None:
        trained.model.weights = config.weights
    trained.loader = OmegaConf.merge(trained.loader, config.loader)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    data = segmentation_data(trained, base_model(trained))
    run_dir = Path(HydraConfig.get().runtime.output_dir)
    report_on(checkpoint, trained, data, config.evaluation, run_dir, device)


def trained_config(checkpoint: Path) -> DictConfig:
    """The configuration a checkpoint was trained with.

    Raises:
        InputError: If the file is not a checkpoint of a run.
    """
    return DictConfig(_read(checkpoint)["sam_train"]["config"])


def _read(checkpoint: Path) -> dict[str, Any]:
    import torch

    from sam_train.structures import InputError

    if not checkpoint.is_file():
        raise InputError(f"checkpoint={checkpoint}: no such file; best.ckpt and last.ckpt are in a run's folder")
    content = torch.load(checkpoint, map_location="cpu", weights_only=True)
    if "sam_train" not in content:
        raise InputError(f"checkpoint={checkpoint}: not a checkpoint of sam-train; weights go to model.weights=...")
    return content


def load_pair(checkpoint: Path, config: DictConfig) -> tuple[PromptableModel, PromptableModel]:
    """The untuned and the tuned model of a checkpoint.

    Raises:
        InputError: If the base model's weights are not those it was trained from.
    """
    from sam_train.cli.build import base_model, require_same_base, tuned_model

    content = _read(checkpoint)
    untuned, tuned = base_model(config), tuned_model(config)
    require_same_base(content["sam_train"], untuned, str(checkpoint))
    state = {name.removeprefix("model."): value for name, value in content["state_dict"].items()}
    tuned.load_state_dict({**tuned.state_dict(), **state})
    return untuned, tuned


def report_on(
    checkpoint: Path,
    config: DictConfig,
    data: SegmentationData,
    evaluation: DictConfig,
    folder: Path,
    device: torch.device,
) -> None:
    """Compare a checkpoint with its base, in a table, ``report.json`` and pictures."""
    import torch
    from rich.console import Console
    from rich.progress import Progress

    from sam_train.evaluation.report import compare, save_overlays, score

    untuned, tuned = load_pair(checkpoint, config)
    is_first = not torch.distributed.is_initialized() or torch.distributed.get_rank() == 0
    console = Console(quiet=not is_first)
    loader = data.eval_dataloader(evaluation.split)
    with Progress(console=console, transient=True) as progress:
        before = score(untuned.to(device), loader, progress, "untuned")
        after = score(tuned.to(device), loader, progress, "tuned")
    if not is_first:
        return
    report = compare(before, after, len(data.splits[evaluation.split]), evaluation.split)
    report.save(folder / "report.json")
    save_overlays(untuned, tuned, data.eval_dataset(evaluation.split), evaluation.overlays, folder / "overlays")
    console.print(report.table())
    console.print(f"checkpoint  {checkpoint}\nreport      {folder / 'report.json'}\npictures    {folder / 'overlays'}")


if __name__ == "__main__":
    main()
