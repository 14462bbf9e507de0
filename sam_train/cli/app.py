"""``sam-app``: the page on which people label, judge and tune."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from sam_train.cli.compose import run

if TYPE_CHECKING:
    from sam_train.app.pictures import Picture
    from sam_train.data.sources.tones import Tones


def main() -> None:
    """Run the command line."""
    run("app", serve_page)


def serve_page(config: DictConfig) -> None:
    """Serve the page until Ctrl-C; what is wrong with the request is told before the model is loaded."""
    from rich.console import Console
    from rich.text import Text

    from sam_train.app.folder import require_own_folder
    from sam_train.app.serving import require_web, serve, take_port

    require_web()
    opened, folder = _folders(config)
    require_own_folder(folder, opened)
    port = take_port(config.host, config.port)

    from sam_train.app.opening import Opened, open_labeling
    from sam_train.app.saving import SavedLabels
    from sam_train.cli.build import absolute, plain

    pictures, notes, tones = _pictures(config)
    saved = SavedLabels(folder, pictures, opened)
    checkpoint = Opened(absolute(config.checkpoint), config.weights, config.image_size, config.device)
    console = Console(soft_wrap=True, highlight=False)
    console.print(f"{len(pictures):,} images, {len(saved):,} accepted in {folder}", markup=False)
    names = [str(name) for name in plain(config)["categories"]]
    with console.status(Text(f"opening {config.checkpoint}")):
        labeling = open_labeling(pictures, notes, saved, checkpoint, config.steps, names, tones)
    serve(labeling, port, lambda address: console.print(f"{address}\nCtrl-C ends it", markup=False))


def _folders(config: DictConfig) -> tuple[str, Path]:
    """Return what holds the images, and the folder for labels."""
    from sam_train.errors import InputError

    data = config.get("data")
    if (config.images is None) == (data is None):
        raise InputError(
            "images=: give a folder of images, or a data source (data=folder data.root=...), and one of them"
        )
    if data is not None and config.window is not None:
        raise InputError("window=: is of images=; a data source has its own: data.window=...")
    own = config.images if data is None else data.get("root")
    roots = [Path(str(root)).expanduser().absolute() for root in ([own] if own else _roots_of_parts(config.data))]
    if data is None and not roots[0].is_dir():
        raise InputError(f"images={config.images}: not a folder; name the folder that holds the images")
    if config.output is None and own is None:
        raise InputError("output=: name a folder for the labels")
    folder = Path(config.output or roots[0].with_name(f"{roots[0].name}_labels")).expanduser().absolute()
    for root in roots:
        if folder.is_relative_to(root) or root.is_relative_to(folder):
            raise InputError(
                f"output={folder}: one of this and {root} lies in the other, where labels would be taken for images; "
                "name another folder"
            )
    return " + ".join(map(str, roots)) or str(config.data._target_), folder


def _roots_of_parts(data: DictConfig) -> list[str]:
    """Return the folders of a source's parts, as far as they have any."""
    parts = [part for part in (data.get("parts") or {}).values() if isinstance(part, DictConfig)]
    return [part["root"] for part in parts if part.get("root")]


def _pictures(config: DictConfig) -> tuple[list[Picture], list[str], Tones]:
    """Return the images, what to note of them, and how their stored numbers become 8 bits."""
    from sam_train.app.pictures import pictures_in_folder, pictures_of_source, tones_of_source
    from sam_train.cli.build import data_source, import_own_sources, plain
    from sam_train.runs.opening import as_in_training, image_tones

    if config.get("data") is None:
        tones = image_tones(config.checkpoint, plain(config)["window"])
        return *pictures_in_folder(Path(str(config.images)).expanduser().absolute(), tones), tones
    import_own_sources()
    source = as_in_training(data_source(config.data), config.checkpoint)
    return pictures_of_source(source), [], tones_of_source(source)


if __name__ == "__main__":
    main()
