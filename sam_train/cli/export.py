"""``sam-export``: what a run learned, as a checkpoint that other tools read."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from sam_train.cli.compose import run

if TYPE_CHECKING:
    from sam_train.models import ImageModel


def main() -> None:
    """The command line."""
    run("export", export)


def export(config: DictConfig) -> None:
    """Write a run's tuned model with its adapters merged, in a layout of other tools; or what changed, for PEFT."""
    from rich.console import Console

    from sam_train.checkpoints.tones_file import write_tones
    from sam_train.export.card import card_file, model_card, read_report, write_card
    from sam_train.export.hub import push, require_repository, require_token
    from sam_train.export.targets import require_format, require_writable, write
    from sam_train.export.usage import BY_NAME, usage
    from sam_train.models.presets import PRESETS
    from sam_train.runs.opening import shown_alike
    from sam_train.runs.run import Run

    path = Path(config.path).expanduser().absolute()
    run, format_ = Run.load(config.checkpoint, config.weights), config.format
    require_writable(path)
    if config.push is not None:
        require_repository(config.push)
        require_token(config.push)
    tuned, preset = run.tuned(), run.model.preset
    require_format(format_, tuned, preset)
    console = Console(soft_wrap=True, highlight=False)
    with console.status(f"writing format={format_} and trying it out"):
        checks = write(run.untuned(), tuned, path, format_, config.precision)
    rule = write_tones(path, shown_alike(run.record["config"]["data"]))

    def card(name: str) -> str:
        opened = name if format_ in BY_NAME else path.name
        told = usage(tuned, preset, run.model.source() or preset, opened, format_, config.precision)
        return model_card(name, run.record, read_report(run.checkpoint), format_, told)

    has_card = write_card(path, card(path.name))
    console.print(f"{preset}  {path}\nopens in {_opened_by(tuned, preset, path)[format_]}", markup=False)
    for check in checks:
        console.print(str(check), markup=False)
    if run.categories is not None:
        console.print("left out: the head that finds objects without a prompt, for which these formats have no place")
    size = tuned.preprocessing.image_size
    says_size = format_ in ("huggingface", "transformersjs")
    if not says_size and size != PRESETS[preset].preprocessing.image_size:
        console.print(f"tuned at an input of {size} px, which format={format_} cannot say: resize images to that")
    kept = "" if has_card else " was there already, and is not a model card of an export: left as it is"
    console.print(f"model card: {card_file(path)}{kept}", markup=False)
    if config.push is not None:
        write_card(path, card(config.push))
        try:
            console.print(f"uploaded: {push(path, config.push)}", markup=False)
        except BaseException:  # Ctrl-C, too: nothing was uploaded
            write_card(path, card(path.name))
            raise
    if rule is not None:
        console.print(f"how stored numbers became 8-bit images in training: {rule}", markup=False)


def _opened_by(tuned: ImageModel, preset: str, path: Path) -> dict[str, str]:
    """Return what opens each format."""
    from sam_train.checkpoints.reading import SHIPPED
    from sam_train.export.targets import FORMATS
    from sam_train.models.sam.sam import Sam

    kind = "SamModel" if isinstance(tuned, Sam) else "Sam2Model"
    is_own = preset in SHIPPED  # a size that nobody else has
    opened = {
        "huggingface": f'transformers.{kind}.from_pretrained("{path}")',
        "peft": f'peft.PeftModel.from_pretrained(base, "{path}"), base being the untuned {kind}',
        "onnx": "onnxruntime: encoder.onnx, then decoder.onnx",
        "transformersjs": f"transformers.js: {kind}.from_pretrained, of the folder's name below env.localModelPath",
        "torch": 'torch.export.load(".../encoder.pt2").module(), then decoder.pt2',
        "aoti": 'torch._inductor.aoti_load_package(".../encoder.pt2"), then decoder.pt2, on processors such as this',
        "meta": f"{'' if is_own else 'the official code, or '}model.weights= of the next training",
    }
    assert opened.keys() == {*FORMATS}
    return opened


if __name__ == "__main__":
    main()
