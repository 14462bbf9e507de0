"""``sam-data``: data looked at before training, and written in other formats."""

from __future__ import annotations

import difflib
import sys
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from sam_train.cli.compose import run
from sam_train.cli.telling import fail

if TYPE_CHECKING:
    from sam_train.data.sources.base import DataSource

FORMATS = ("coco", "datasets", "webdataset")

_HELP = """Look at data before training, and write them in other formats.

  sam-data check data.root=DIR       # counts, sizes, duplicates, damaged files, masks worth a look
  sam-data preview data.root=DIR     # augmented images with masks and prompts, as training would see them
  sam-data convert data.root=DIR format=coco output=DIR2    # or format=datasets, format=webdataset

sam-data check --help lists the settings of a command."""


def main() -> None:
    """Run the command line: a command, then its settings."""
    commands = {"check": check, "preview": preview, "convert": convert}
    word = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if word in ("--help", "-h"):
        sys.stdout.write(f"{_HELP}\n")
        return
    if word not in commands:
        near = difflib.get_close_matches(word, commands, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]}?" if near else "the first word is what to do"
        fail(f"sam-data {word}: {hint} (one of {', '.join(commands)})")
    sys.argv = [f"sam-data {word}", *sys.argv[2:]]
    run(word, commands[word])


def check(config: DictConfig) -> None:
    """Look at every image and mask; print tables and write a page."""
    from rich.console import Console
    from rich.progress import Progress

    from sam_train.cli.outputs import require_own
    from sam_train.curation import CHECK

    path = require_own(config.output, ".html", CHECK)
    source = _source(config)

    from sam_train.curation.check import check_data
    from sam_train.curation.page import write_check
    from sam_train.curation.tables import show
    from sam_train.models.presets import model_config

    preprocessing = model_config(config.model.preset, config.model.image_size).preprocessing
    with Progress(console=Console(stderr=True), transient=True) as progress:
        found = check_data(source, preprocessing, config.loader.min_area, progress)
    side = preprocessing.image_size
    console = Console(soft_wrap=True, highlight=False)
    show(found, console, side)
    where = str(config.data.get("root") or config.data.get("hub") or config.data._target_.rpartition(".")[2])
    facts = {"data": where, "source": type(source).__name__, "model": f"{config.model.preset}, input of {side} px"}
    write_check(path, found, {**facts, "min_area": f"{config.loader.min_area} pixels of the input"})
    console.print(f"pictures and all names: {path}", markup=False)
    if found.findings.problems:
        raise SystemExit(1)


def preview(config: DictConfig) -> None:
    """Draw the first training images with their objects and prompts."""
    from rich.console import Console

    from sam_train.cli.outputs import require_own
    from sam_train.curation import PREVIEW
    from sam_train.errors import InputError

    path = require_own(config.output, ".png", PREVIEW)
    if config.get("task") is not None:
        raise InputError("task=video: clips are not drawn; leave task out to see their annotated frames as images")

    from sam_train.cli.build import import_own_sources, settings_of
    from sam_train.curation.preview import save_sheet, training_batches
    from sam_train.models.presets import model_config

    import_own_sources()
    settings = settings_of(config)
    preprocessing = model_config(settings.model.preset, settings.model.image_size).preprocessing
    batches = training_batches(settings.data, preprocessing, settings.loader, settings.seed, config.number)
    save_sheet(path, batches, settings.prompts, preprocessing, config.number)
    Console(soft_wrap=True, highlight=False).print(f"the first {config.number} training images: {path}", markup=False)


def convert(config: DictConfig) -> None:
    """Write all images and masks in another format."""
    from pathlib import Path

    from rich.console import Console
    from rich.progress import Progress

    from sam_train.errors import InputError

    if config.format not in FORMATS:
        raise InputError(f"format={config.format}: expected one of {', '.join(FORMATS)}")
    folder = Path(str(config.output)).expanduser().absolute()
    source = _source(config)
    root = config.data.get("root")
    if isinstance(root, str) and folder.is_relative_to(Path(root).expanduser().absolute()):
        raise InputError(f"output={folder}: lies in data.root={root}, where it would be read as data; name another")

    from sam_train.cli.build import plain
    from sam_train.curation import convert as conversion

    console = Console(stderr=True, soft_wrap=True, highlight=False)
    try:
        with Progress(console=console, transient=True) as progress:
            settings = plain(config.data)
            number = conversion.convert(source.settled().splits(), config.format, folder, settings, progress)
    except KeyboardInterrupt:
        console.print("stopped; the same command goes on", markup=False)
        raise SystemExit(1) from None
    Console(soft_wrap=True, highlight=False).print(f"{number:,} images: {folder}", markup=False)


def _source(config: DictConfig) -> DataSource:
    from sam_train.errors import InputError

    if config.get("data") is None:
        raise InputError("no data given: add data.root=DIR, or data=... and its settings (sam-data check --help)")

    from sam_train.cli.build import data_source, import_own_sources

    import_own_sources()
    return data_source(config.data)


if __name__ == "__main__":
    main()
