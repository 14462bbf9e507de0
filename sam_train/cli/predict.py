"""``sam-predict``: objects of new images, into files that other tools open."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from sam_train.cli.compose import run

if TYPE_CHECKING:
    from sam_train.data.sources.prompt_files import GivenObject, Kind, PromptFile
    from sam_train.inference.finder import Finder
    from sam_train.runs.predict import Picture, Wanted


_DECISIVE = (
    "checkpoint",
    "weights",
    "everything",
    "follow",
    "boxes",
    "boxes_of",
    "points",
    "text",
    "detector",
    "detector_threshold",
    "formats",
    "min_score",
    "image_size",
    "channels",
    "window",
    "grid",
    "tile",
    "clean",
)
"""Settings that change what is found in an image: a folder of masks has one value of each."""


_WAYS = "boxes=..., points=..., text='a phrase.' or everything=true"


def main() -> None:
    """Run the command line."""
    run("predict", predict_images)


def predict_images(config: DictConfig) -> None:
    """Find objects in images and write them down; what is wrong with the request is told before the model is loaded."""
    given = _given(config)  # before anything heavy is imported

    from rich.console import Console
    from rich.progress import Progress

    from sam_train.cli.build import plain
    from sam_train.errors import InputError
    from sam_train.runs.opening import volume_view
    from sam_train.runs.predict import FORMATS, open_output, predict

    formats = plain(config)["formats"]
    if others := [name for name in formats if name not in FORMATS]:
        raise InputError(f"formats={others[0]}: expected some of {', '.join(FORMATS)}")
    open_finder, wanted = _opener(config), _wanted(config, given)
    if config.follow:
        _follow(config, open_finder, wanted, formats)
        return
    pictures = _pictures(config)
    console = Console(soft_wrap=True, highlight=False)
    if wanted.prompts is not None:
        wanted.prompts.require_known([picture.name for picture in pictures])
        if lost := wanted.prompts.unknown([picture.name for picture in pictures]):
            text = f"{len(lost)} names in {wanted.prompts.path} are of none of the images, such as {lost[0]}"
            console.print(text, markup=False)
    if wanted.detector is not None:
        wanted.detector.open()  # once, and before the first image
    folder = Path(config.output).expanduser()
    has_volumes = any(picture.is_volume for picture in pictures)
    view = volume_view(config.checkpoint, plain(config)["window"]) if has_volumes else None
    open_output(folder, {key: value for key, value in plain(config).items() if key in _DECISIVE}, config.overwrite)
    with _stopping_politely(), Progress(console=console, transient=True) as progress:
        outcome = predict(open_finder, pictures, wanted, folder, formats, progress, view)
    console.print(f"{outcome.objects} objects in {outcome.done} of {len(pictures)} images  {folder}", markup=False)
    for hint in outcome.hints:
        console.print(hint, markup=False)
    if outcome.problems:
        lines = "\n  ".join(outcome.problems)
        raise InputError(f"{len(outcome.problems)} of {len(pictures)} images were not done:\n  {lines}")


def _follow(config: DictConfig, open_finder: Callable[[], Finder], wanted: Wanted, formats: list[str]) -> None:
    """Follow objects through videos and volumes."""
    from rich.console import Console
    from rich.progress import Progress

    from sam_train.cli.build import plain
    from sam_train.errors import InputError
    from sam_train.inference.footage import is_volume
    from sam_train.runs.follow import follow, list_footage
    from sam_train.runs.opening import image_tones, volume_view
    from sam_train.runs.predict import open_output

    if config.images is None:
        raise InputError("images=: follow=true needs a video, a volume or a folder of frames")
    footage = list_footage(Path(config.images).expanduser())
    folder = Path(config.output).expanduser()
    window = plain(config)["window"]
    has_volumes = any(is_volume(path) for path in footage.values())
    view = volume_view(config.checkpoint, window) if has_volumes else None
    tones = image_tones(config.checkpoint, window, plain(config)["channels"])
    open_output(folder, {key: value for key, value in plain(config).items() if key in _DECISIVE}, config.overwrite)
    console = Console(soft_wrap=True, highlight=False)
    with _stopping_politely(), Progress(console=console, transient=True) as progress:
        outcome = follow(open_finder, footage, wanted, folder, formats, progress, view, tones)
    console.print(f"{outcome.objects} objects followed in {outcome.done} of {len(footage)}  {folder}", markup=False)
    if outcome.problems:
        lines = "\n  ".join(outcome.problems)
        raise InputError(f"{len(outcome.problems)} of {len(footage)} were not done:\n  {lines}")


@contextmanager
def _stopping_politely() -> Iterator[None]:
    """Say on Ctrl-C what goes on from there."""
    from rich.console import Console

    try:
        yield
    except KeyboardInterrupt:
        Console(stderr=True, soft_wrap=True, highlight=False).print("stopped; the same command goes on", markup=False)
        raise SystemExit(1) from None


def _opener(config: DictConfig) -> Callable[[], Finder]:
    """Return what opens the model; settings that do not fit each other are refused at once."""
    from sam_train.cli.build import plain
    from sam_train.inference.finder import Tiling
    from sam_train.inference.mask_generator import Everything
    from sam_train.inference.regions import Cleaning
    from sam_train.runs.opening import open_finder

    cleaning = Cleaning(threshold=config.grid.mask_threshold, **plain(config.clean))
    grid, tiling = Everything(**plain(config.grid)), Tiling(**plain(config.tile))

    def opened() -> Finder:
        where = (config.checkpoint, config.weights, config.image_size, config.device)
        return open_finder(*where, cleaning, grid, tiling, config.min_score)

    return opened


def _given(config: DictConfig) -> PromptFile | list[GivenObject] | None:
    """Return the boxes or points to look for, if there are any; ways that do not go together are refused."""
    from sam_train.data.sources.prompt_files import PromptFile
    from sam_train.errors import InputError

    ways = [name for name in ("boxes", "points", "text") if config[name] is not None] + ["everything"] * (
        config.everything
    )
    if len(ways) > 1:
        raise InputError(f"{' and '.join(ways)} given to look for: give one of {_WAYS}")
    if config.boxes_of is not None and not isinstance(config.boxes, str):
        raise InputError("boxes_of=: says what numbers in a file of boxes mean; give boxes=results.json, too")
    kinds: tuple[Kind, ...] = ("boxes", "points")
    for kind in kinds:
        if isinstance(config[kind], str):
            names_from = config.boxes_of and Path(config.boxes_of).expanduser()
            return PromptFile(Path(config[kind]).expanduser(), kind, names_from)
        if config[kind] is not None:
            return _same(kind, [*config[kind]])
    return None


def _wanted(config: DictConfig, given: PromptFile | list[GivenObject] | None) -> Wanted:
    from sam_train.inference.text_detector import TextDetector
    from sam_train.runs.opening import checkpoint_files
    from sam_train.runs.predict import Wanted

    files = (*checkpoint_files(config.checkpoint), *(checkpoint_files(config.weights) if config.weights else ()))
    if isinstance(given, list):
        return Wanted(same=given, files=files)
    if given is not None:
        return Wanted(given, files=(*files, *given.files))
    if config.text is not None:
        phrases = [config.text] if isinstance(config.text, str) else config.text
        named = [str(phrase) for phrase in phrases]
        detector = TextDetector(config.detector, named, config.detector_threshold, config.device)
        return Wanted(detector=detector, files=files)
    if not config.everything:
        _require_head(config.checkpoint)
    return Wanted(everything=config.everything, files=files)


def _require_head(checkpoint: str) -> None:
    """Refuse to look for objects without a prompt by a checkpoint that has not learned to; else say what it finds."""
    from rich.console import Console

    from sam_train.errors import InputError
    from sam_train.runs.opening import found_categories

    names = found_categories(checkpoint)
    if names is None:
        raise InputError(
            f"nothing given to look for: give one of {_WAYS}. Checkpoints that were trained with prompter=center find "
            "objects without a prompt; this is none of them"
        )
    shown = ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")
    Console(soft_wrap=True, highlight=False).print(
        f"no prompt given: the checkpoint's head finds {shown}", markup=False
    )


def _same(kind: Kind, values: list[Any]) -> list[GivenObject]:
    """Return what was typed, for every image."""
    from sam_train.data.sources.prompt_files import GivenObject, check_given
    from sam_train.errors import InputError

    width = 4 if kind == "boxes" else 2
    try:
        rows = [tuple(float(number) for number in row) for row in values]
    except TypeError:
        rows = []
    if not rows or any(len(row) != width for row in rows):
        form = "[[x0,y0,x1,y1]]" if kind == "boxes" else "[[x,y]]"
        raise InputError(f"{kind}={values}: expected a file, or {kind} for every image as {form}")
    if kind == "boxes":
        return [check_given(GivenObject((row[0], row[1], row[2], row[3]))) for row in rows]
    return [check_given(GivenObject(points=((row[0], row[1]),), labels=(1,))) for row in rows]


def _pictures(config: DictConfig) -> list[Picture]:
    from sam_train.cli.build import data_source, import_own_sources, plain
    from sam_train.errors import InputError
    from sam_train.runs.opening import as_in_training, image_tones
    from sam_train.runs.predict import list_pictures, pictures_of

    data = config.get("data")
    if (config.images is None) == (data is None):
        raise InputError(
            "images=: give a file or a folder, or a data source (data=folder data.root=...), and one of them"
        )
    if data is None:
        tones = image_tones(config.checkpoint, plain(config)["window"], plain(config)["channels"])
        return list_pictures(Path(config.images).expanduser(), tones, Path(config.output).expanduser())
    for key in ("window", "channels"):
        if plain(config)[key]:
            raise InputError(f"{key}=: is of images=; a data source has its own: data.{key}=...")
    import_own_sources()
    splits = as_in_training(data_source(data), config.checkpoint).splits()
    if config.split not in splits:
        raise InputError(f"split={config.split}: the data have {', '.join(splits)}")
    return pictures_of(splits[config.split])


if __name__ == "__main__":
    main()
