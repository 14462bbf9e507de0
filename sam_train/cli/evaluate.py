"""``sam-evaluate``: a checkpoint beside the model it came from, on held-out masks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig, OmegaConf

from sam_train.cli.compose import choices, run

if TYPE_CHECKING:
    import torch

    from sam_train.data.loading.datamodule import SegmentationData
    from sam_train.data.sources.base import Split


def main() -> None:
    """The command line."""
    run("evaluate", evaluate)


def evaluate(config: DictConfig) -> None:
    """Compare a checkpoint with its base model on a split of any data."""
    import torch
    from hydra.core.hydra_config import HydraConfig

    from sam_train.cli.build import base_model, require_unseen, segmentation_data, trained_config

    checkpoint = Path(config.checkpoint)
    trained = trained_config(checkpoint)
    trained.data = _data(config, trained, checkpoint)
    if config.weights is not None:
        trained.model.weights = config.weights
    trained.loader.update({key: value for key, value in config.loader.items() if value is not None})
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    data = segmentation_data(trained, base_model(trained), {config.evaluation.split})
    require_unseen(checkpoint, data.splits[config.evaluation.split], config.evaluation.split)
    run_dir = Path(HydraConfig.get().runtime.output_dir)
    _tell_split(data, config.evaluation.split)
    report_on(checkpoint, trained, data, config.evaluation, run_dir, device)


def _data(config: DictConfig, trained: DictConfig, checkpoint: Path) -> DictConfig:
    """The data named on the command line, read as in training wherever nothing else was said.

    A configuration of a person's own says everything.
    """
    from hydra.core.hydra_config import HydraConfig

    from sam_train.cli.build import require_harmless

    named = config.get("data")
    is_own = named and f"data={HydraConfig.get().runtime.choices['data']}" not in choices()
    if named and (is_own or named._target_ != trained.data._target_):
        return named
    require_harmless(OmegaConf.to_container(trained.data, resolve=False), checkpoint)
    typed = [override.split("=", 1)[0].lstrip("+") for override in HydraConfig.get().overrides.task]
    data = trained.data.copy()
    for key in (name.removeprefix("data.") for name in typed if name.startswith("data.")):
        OmegaConf.update(data, key, OmegaConf.select(config.data, key))
    return data


def _tell_split(data: SegmentationData, split: Split) -> None:
    """Say so if only a part of the images is looked at."""
    from rich.console import Console

    chosen = data.splits[split]
    others = [f"{len(source)} {name}" for name, source in data.splits.items() if source is not chosen]
    if others:
        text = f"images: {len(chosen)} {split}; not looked at: {', '.join(others)}"
        Console(highlight=False).print(text, markup=False)


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

    from sam_train.cli.build import load_pair
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
    source = data.splits[evaluation.split]
    split = "val" if source is data.splits.get("val") else evaluation.split  # which may stand in for a missing test
    report = compare(before, after, len(source), split)
    report.save(folder / "report.json")
    console.print(report.table())
    save_overlays(untuned, tuned, data.eval_dataset(evaluation.split), evaluation.overlays, folder / "overlays")
    console.print(
        f"checkpoint  {checkpoint}\nreport      {folder / 'report.json'}\npictures    {folder / 'overlays'}",
        markup=False,
    )


if __name__ == "__main__":
    main()
