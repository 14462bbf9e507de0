"""The model card of an export: what a run's record and report say of it, and nothing else."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePath
from typing import Any

from sam_train.checkpoints.reading import SHIPPED
from sam_train.evaluation.report import FEW_GROUPS, Report
from sam_train.files import write_text
from sam_train.models.presets import PRESETS

CARD = "README.md"
_LIBRARIES = {"huggingface": "transformers", "peft": "peft", "transformersjs": "transformers.js"}
_HUB_ID = re.compile(r"[\w-][\w.-]*/[\w.-]+")
_RELEASED = re.compile(
    r"facebook/sam-vit-\w+|facebook/sam2(\.1)?-hiera-[\w-]+|Zigeng/SlimSAM.*|"
    r"sam_vit_[blh]_\w+\.pth|sam2(\.1)?_hiera_\w+\.pt|mobile_sam\.pt"
)
"""Hub ids and file names of the weights that Meta and the authors of MobileSAM and SlimSAM released: all Apache-2.0."""

_MARK = "fine-tuned with sam_train."


def read_report(checkpoint: Path) -> Report | None:
    """Read what a run's evaluation found; None if it was not evaluated, or another of its checkpoints was."""
    file, best = checkpoint.with_name("report.json"), checkpoint.with_name("best.ckpt")
    if not file.is_file() or (best.is_file() and checkpoint.name != best.name):
        return None
    return Report.of(json.loads(file.read_text(encoding="utf-8")))


def card_file(path: Path) -> Path:
    """Return where the card of an export is: in its folder, or beside its file."""
    return path / CARD if path.is_dir() else path.with_name(f"{path.name}.{CARD}")


def write_card(path: Path, card: str) -> bool:
    """Write the card of an export; leave a README that is not such a card, and return whether it was written."""
    file = card_file(path)
    if file.is_file() and not is_card(file):
        return False
    write_text(file, card)
    return True


def is_card(file: Path) -> bool:
    """Tell whether a file is the card of an export."""
    return file.is_file() and _MARK in file.read_text(encoding="utf-8", errors="replace")


def model_card(title: str, record: Mapping[str, Any], report: Report | None, format_: str, usage: str) -> str:
    """Return a README in Markdown with the front matter that the Hugging Face hub reads.

    Args:
        title: Name of the model.
        record: What the run says of itself.
        report: Its held-out scores.
        format_: Of the export.
        usage: How it is used, in Markdown.
    """
    parts = {
        "Data": _data(record),
        "Recipe": _recipe(record),
        "Held-out results": _results(report),
        "Limits": _limits(record, report),
        "License": _license(record),
    }
    sections = [f"## {name}\n\n" + "\n".join(lines) for name, lines in parts.items()]
    model = record["config"]["model"]["preset"]
    first = f"# {title}\n\n`{model}`, {_MARK}"
    return "\n\n".join([_front_matter(record, format_), first, f"## How to use\n\n{usage}", *sections]) + "\n"


def _front_matter(record: Mapping[str, Any], format_: str) -> str:
    model, encoder = record["config"]["model"], record["config"]["tuning"]["encoder"]
    weights = model["weights"] or ""
    lines = [f"library_name: {_LIBRARIES[format_]}"] if format_ in _LIBRARIES else []
    lines.append("pipeline_tag: mask-generation")
    if is_hub_id(weights):
        lines.append(f"base_model: {weights}")
    if _is_released(weights):
        lines.append("license: apache-2.0")
    family = "sam2" if model["preset"].startswith("sam2") else "sam"
    lines += ["tags:", "- segment-anything", f"- {family}", *(["- lora"] if encoder == "lora" else [])]
    return "\n".join(["---", *lines, "---"])


def is_hub_id(weights: str) -> bool:
    """Tell whether weights are a repository of the hub, not a file or folder of this machine."""
    is_file = Path(weights).suffix.startswith((".pt", ".safe", ".bin")) or Path(weights).exists()
    return _HUB_ID.fullmatch(weights) is not None and not is_file


def _is_released(weights: str) -> bool:
    names = (weights, PurePath(weights).name)
    return weights in ("", *SHIPPED) or any(_RELEASED.fullmatch(name) for name in names)


def _data(record: Mapping[str, Any]) -> Iterator[str]:
    """Yield the sources, without the folders they are in, and the number of images."""
    sources = [record["config"]["data"]]
    while sources:
        source = sources.pop(0)
        if isinstance(parts := source.get("parts"), Mapping):
            sources += parts.values()
            continue
        kind = source["_target_"].rpartition(".")[2].removesuffix("Source")
        name = next((source[key] for key in ("root", "path", "domain") if source.get(key)), "")
        drawn = " (images drawn by a program, nothing real)" if kind.startswith("Toy") else ""
        yield f"- {kind}" + (f": `{PurePath(str(name)).name}`" if name else "") + drawn
    count = {split: len(record["images"].get(split, ())) for split in ("train", "val")}
    yield f"- {count['train']} images in the part that trains, {count['val']} to choose the checkpoint by"


def _recipe(record: Mapping[str, Any]) -> Iterator[str]:
    config = record["config"]
    tuning, optim, loader, model = (config[name] for name in ("tuning", "optim", "loader", "model"))
    encoder = tuning["encoder"]
    if encoder == "lora":
        encoder = f"LoRA of rank {tuning['rank']} on {tuning['targets']}"
    weights = PurePath(str(model["weights"])).name if model["weights"] else "those that come with sam_train"
    if is_hub_id(model["weights"] or ""):
        weights = model["weights"]
    yield f"- base: `{model['preset']}`, weights: {weights}"
    trains = {"image encoder": encoder} | {
        part.replace("_", " "): "trained" if tuning[part] else "frozen" for part in ("prompt_encoder", "mask_decoder")
    }
    if tuning.get("memory", "frozen") != "frozen":
        trains["memory"] = tuning["memory"]
    yield "- " + "; ".join(f"{part}: {how}" for part, how in trains.items())
    steps = config["trainer"].get("max_steps") or -1
    steps = steps if steps > 0 else record.get("horizon")
    devices, task = record["devices"], config.get("task")
    unit = "images" if task is None else f"clips of {task['num_frames']} frames"
    yield (
        f"- {f'{steps} steps of ' if steps else ''}{loader['batch_size'] * devices} {unit} with up to "
        f"{loader['max_objects']} objects each, AdamW with a rate of {optim['lr']:g} and a decay of "
        f"{optim['weight_decay']:g}, seed {config['seed']}"
    )
    prompts = config["prompts"] if task is None else task
    kinds = [kind for kind in ("box", "point", "center", "mask", "given") if prompts.get(kind)]
    yield f"- prompts in training: {', '.join(kinds)}; corrective clicks: {prompts['corrections']}"
    yield "- versions: " + ", ".join(f"{name} {version}" for name, version in record["versions"].items())


def _results(report: Report | None) -> Iterator[str]:
    if report is None:
        yield "Not evaluated: the run has no report of this checkpoint."
        return
    yield f"{report.num_objects} objects of {report.num_images} held-out {report.unit} (split `{report.split}`).\n"
    yield "| prompt | metric | untuned | tuned | change | 95% interval of the change |"
    yield "|---|---|---|---|---|---|"
    for prompt, scores in report.tuned.items():
        for metric, told in report.metrics.items():
            before, after = report.untuned[prompt][metric], scores[metric]
            interval = report.interval(prompt, metric)
            ends = "not known" if interval is None else f"{interval[0]:+.3f} to {interval[1]:+.3f}"
            cells = prompt, told["title"], f"{before:.3f}", f"{after:.3f}", f"{after - before:+.3f}", ends
            yield f"| {' | '.join(cells)} |"
    yield f"\nIntervals are bootstrapped over {report.num_groups} groups (patients, slides, videos or single images)."


def _limits(record: Mapping[str, Any], report: Report | None) -> Iterator[str]:
    yield "- It has been adapted to the data above and is not known to work on others."
    if report is None:
        yield "- Nothing is known of how good it is."
    else:
        if report.num_groups < FEW_GROUPS:
            yield f"- The intervals are rough: they rest on {report.num_groups} groups."
        for prompt in report.tuned:
            if lost := [told["title"] for name, told in report.metrics.items() if report.verdict(prompt, name) < 0]:
                yield f"- Prompted by {prompt} it is worse than the untuned model: {', '.join(lost)}."
        if report.num_too_small:
            least = record["config"]["loader"]["min_area"]
            yield f"- {report.num_too_small} held-out objects of less than {least:g} pixels are not in the scores."
    side = (
        record["config"]["model"]["image_size"] or PRESETS[record["config"]["model"]["preset"]].preprocessing.image_size
    )
    yield f"- Images are resized to {side} px, and masks are computed at {side // 4} px and enlarged."


def _license(record: Mapping[str, Any]) -> Iterator[str]:
    weights = record["config"]["model"]["weights"] or ""
    if weights == "random":
        yield "Trained from scratch: no license of other weights applies."
    elif _is_released(weights):
        yield "The weights that it began with are Apache-2.0, judged by the name of their file or repository."
    else:
        yield "The license of the weights that it began with is not known here, and applies."
    yield "What the license of the training data asks for is for their owner to say."
