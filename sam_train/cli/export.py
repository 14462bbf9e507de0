"""``sam-export``: what a run learned, as a checkpoint that other tools read."""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig

from sam_train.cli.compose import run

FORMATS = ("huggingface", "meta", "onnx", "peft")


def main() -> None:
    """The command line."""
    run("export", export)


def export(config: DictConfig) -> None:
    """Write a run's tuned model with its adapters merged, in a layout of other tools; or what changed, for PEFT."""
    from rich.console import Console

    from sam_train.checkpoints import save_adapters, save_checkpoint
    from sam_train.checkpoints.reading import SHIPPED
    from sam_train.checkpoints.tones_file import write_tones
    from sam_train.errors import InputError
    from sam_train.export.onnx import export_onnx
    from sam_train.models.presets import PRESETS
    from sam_train.models.sam.sam import Sam
    from sam_train.runs.run import Run
    from sam_train.tuning.lora import merged, merged_state_dict

    if config.format not in FORMATS:
        raise InputError(f"format={config.format!r}: expected one of {', '.join(FORMATS)}")
    run = Run.load(config.checkpoint, config.weights)
    tuned, preset = run.tuned(), run.model.preset
    agreement = None
    if config.format == "onnx":
        agreement = export_onnx(merged(tuned), Path(config.path), config.precision)
    elif config.format == "peft":
        save_adapters(tuned, config.path)
    else:
        save_checkpoint(tuned, config.path, config.format, merged_state_dict(tuned))
    rule = write_tones(Path(config.path), run.record["config"]["data"])
    console = Console(soft_wrap=True, highlight=False)
    path = Path(config.path).absolute()
    name = "SamModel" if isinstance(tuned, Sam) else "Sam2Model"
    is_own = preset in SHIPPED  # a size that nobody else has
    opened = {
        "huggingface": f'transformers.{name}.from_pretrained("{path}")',
        "peft": f'peft.PeftModel.from_pretrained(base, "{path}"), base being the untuned {name}',
        "onnx": "onnxruntime: encoder.onnx, then decoder.onnx",
        "meta": f"{'' if is_own else 'the official code, or '}model.weights= of the next training",
    }
    console.print(f"{preset}  {path}\nopens in {opened[config.format]}", markup=False)
    if agreement is not None:
        told = f"its masks have an IoU of {agreement.iou:.4f} with the model's own"
        console.print(f"run in onnxruntime, {told}; logits differ by at most {agreement.difference:.2g}", markup=False)
    if run.categories is not None:
        console.print("left out: the head that finds objects without a prompt, for which these formats have no place")
    size = tuned.preprocessing.image_size
    if config.format != "huggingface" and size != PRESETS[preset].preprocessing.image_size:
        console.print(f"tuned at an input of {size} px, which format={config.format} cannot say: resize images to that")
    if rule is not None:
        console.print(f"how stored numbers became 8-bit images in training: {rule}", markup=False)


if __name__ == "__main__":
    main()
