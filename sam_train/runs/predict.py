"""Objects of many images into files: whole files only, resumable, and one bad image does not stop the others."""

from __future__ import annotations

import glob
import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import UInt8
from PIL import Image
from rich.progress import Progress
from torch import Tensor

from sam_train.data.sources.base import ImageSet, no_objects
from sam_train.data.sources.decoding import SUFFIXES
from sam_train.data.sources.image_files import PLAIN, read_image
from sam_train.data.sources.prompt_files import GivenObject, PromptFile
from sam_train.data.sources.safe_walk import is_inside, walk_files
from sam_train.data.sources.tones import Tones
from sam_train.data.sources.video.video_file import SUFFIXES as VIDEOS
from sam_train.data.sources.volume.reading import NIFTI, require_libraries
from sam_train.errors import InputError
from sam_train.files import write_text
from sam_train.inference import volumes
from sam_train.inference.center_finder import OVERLAP
from sam_train.inference.finder import Finder
from sam_train.inference.georeference import read_georeference
from sam_train.inference.instances import Instances
from sam_train.inference.mask_files import coco_annotations, write_coco, write_geojson, write_labels, write_overlay
from sam_train.inference.text_detector import TextDetector
from sam_train.inference.volumes import View, Volume
from sam_train.progress import watched

FORMATS = ("overlays", "labels", "polygons")
_MARK = "predict.json"
_DONE = "instances/**/*.json"
_MUCH_LARGER = 8  # times the model's input: objects of a few dozen pixels are then a few there


class Picture(NamedTuple):
    """An image or a volume.

    Attributes:
        name: Unique; its path below the folder of images.
        source: Returns what tells it from another image of this name.
        read: Returns its pixels.
        path: Of its file, where it has one; of a DICOM series its folder.
    """

    name: str
    source: Callable[[], str]
    read: Callable[[], UInt8[Tensor, "3 h w"]]
    path: Path | None = None

    @property
    def is_volume(self) -> bool:
        """Whether it is a volume."""
        return self.path is not None and (self.path.is_dir() or self.name.lower().endswith(volumes.SUFFIXES))


@dataclass(frozen=True)
class Wanted:
    """What is looked for in each image.

    Attributes:
        prompts: A file of boxes or points.
        same: Prompts that are given for every image.
        detector: Finds what phrases name, as boxes.
        everything: Whether all objects are looked for by a grid of clicks. Otherwise, and without prompts, those that
            the checkpoint's head has learned to find.
        files: What decides beside the images, the checkpoint among them: masks older than one of these are made anew.
    """

    prompts: PromptFile | None = None
    same: Sequence[GivenObject] = ()
    detector: TextDetector | None = None
    everything: bool = False
    files: tuple[Path, ...] = ()

    def find(self, finder: Finder, name: str, pixels: UInt8[Tensor, "3 h w"]) -> Instances:
        """Return what is found in an image of this name."""
        if self.everything:
            return finder.everything(pixels)
        if self.detector is not None:
            return finder.prompted(pixels, self.detector.find(pixels)).distinct(OVERLAP)
        if self.prompts is None and not self.same:
            return finder.named(pixels)
        given = [*self.same, *(self.prompts.of(name) if self.prompts else ())]
        return finder.prompted(pixels, given)


class Outcome(NamedTuple):
    """What became of the images.

    Attributes:
        done: Number of images, with those of an earlier call.
        objects: Number of objects in them.
        problems: Of each image that was not done, in words.
        hints: What may have kept objects from being found.
    """

    done: int
    objects: int
    problems: list[str]
    hints: tuple[str, ...] = ()


def list_pictures(images: Path, tones: Tones = PLAIN, output: Path | None = None) -> list[Picture]:
    """Return a file, or all images and volumes below a folder; folders with DICOM files are volumes.

    Args:
        images: The file or folder.
        tones: How stored numbers of images become 8 bits.
        output: The folder for what is found: where it lies among the images, nothing in it is one.

    Raises:
        InputError: If there is none.
    """
    kinds = (*SUFFIXES, *volumes.SUFFIXES)
    if images.is_file() and images.name.lower().endswith(kinds):
        return [_picture(images, images.name, tones)]
    if images.is_file():
        hint = "; videos want follow=true" if images.name.lower().endswith(VIDEOS) else ""
        raise InputError(f"images={images}: expected a folder, or a file of {', '.join(sorted(kinds))}{hint}")
    if not images.is_dir():
        raise InputError(f"images={images}: no such file or folder")
    if output is not None and output.resolve() == images.resolve():
        raise InputError(f"output={output}: the folder of the images; name another, which may lie in it")
    below = None if output is None or is_inside(images, output) else output
    names = [name for name in walk_files(images) if below is None or not is_inside(images / name, below)]
    found = [_picture(images / name, name, tones) for name in names if name.lower().endswith(kinds)]
    for folder in sorted({(images / name).parent for name in names if volumes.is_dicom_file(images / name)}):
        found.append(
            _picture(folder, images.name if folder == images else folder.relative_to(images).as_posix(), tones)
        )
    if any(picture.is_volume and not picture.name.lower().endswith(NIFTI) for picture in found):
        require_libraries()
    if not found:
        others = f"{len(names)} other files, such as {names[0]}" if names else "nothing"
        expected = f"files of {', '.join(sorted(kinds))}, or DICOM"
        raise InputError(f"images={images}: no images in it but {others}; expected {expected}")
    return found


def pictures_of(images: ImageSet) -> list[Picture]:
    """Return the images of a data source."""

    def reader(index: int) -> Callable[[], Tensor]:
        return lambda: images.read(index, no_objects).image

    found = enumerate(images.ids)
    return [Picture(name, partial(images.fingerprint, index), reader(index)) for index, name in found]


def open_output(folder: Path, settings: Mapping[str, Any], overwrite: bool) -> None:
    """Take a folder for the output, or go on with what an earlier call with the same settings left there.

    Raises:
        InputError: If it holds anything else.
    """
    if folder.exists() and not folder.is_dir():
        raise InputError(f"output={folder}: a file; name a folder")
    mark, left = folder / _MARK, [path for path in folder.iterdir() if path.name[0] != "."] if folder.is_dir() else []
    differing: list[str] = []
    if mark.is_file():
        earlier = json.loads(mark.read_text(encoding="utf-8")) if any(folder.glob(_DONE)) else settings
        differing = sorted(key for key in {*earlier, *settings} if earlier.get(key) != settings.get(key))
        if differing and not overwrite:
            key = differing[0]
            raise InputError(
                f"output={folder}: holds masks that were made with {key}={earlier.get(key)}, not {settings.get(key)}; "
                "name another folder, or overwrite=true"
            )
    elif left and not overwrite:
        raise InputError(
            f"output={folder}: holds {left[0].name} and {len(left) - 1} others that sam-predict did not make; name "
            "another folder, or overwrite=true"
        )
    if differing:
        _remove_done(folder)
    write_text(mark, json.dumps(settings, indent=2) + "\n")


def _remove_done(folder: Path) -> None:
    """Remove what was found with other settings, image by image."""
    for mark in [*folder.glob(_DONE)]:
        stem = mark.relative_to(folder / "instances").with_suffix("")
        for kind in FORMATS:
            shutil.rmtree(folder / kind / stem, ignore_errors=True)  # slices of a volume
            for file in (folder / kind / stem.parent).glob(f"{glob.escape(stem.name)}.*"):
                file.unlink()
        mark.unlink()


def predict(
    open_finder: Callable[[], Finder],
    pictures: Sequence[Picture],
    wanted: Wanted,
    folder: Path,
    formats: Sequence[str] = FORMATS,
    progress: Progress | None = None,
    view: View | None = None,
) -> Outcome:
    """Find objects and write them down, image by image; images that are done already are left alone.

    Below the folder: ``overlays/``, ``labels/`` and ``polygons/`` as asked for, ``instances/`` with COCO's records of
    each image, and at the end ``instances.json``, one COCO file of all.

    Args:
        open_finder: Opens the model, if there is anything to do.
        pictures: The images.
        wanted: What is looked for in them.
        folder: For the output.
        formats: Of :data:`FORMATS`.
        progress: Shows how far it is.
        view: How volumes are looked at.
    """
    stems = stems_of([picture.name for picture in pictures])
    marks = [folder / "instances" / f"{stem}.json" for stem in stems]
    finder: Finder | None = None
    problems = []
    task = progress.add_task("images", total=len(pictures)) if progress else None
    with _images_of_any_size():
        for picture, stem, mark in zip(pictures, stems, marks, strict=True):
            try:
                source = picture.source()
                if not is_done(mark, source, picture.path, wanted):
                    mark.unlink(missing_ok=True)
                    finder = finder or open_finder()
                    finder.progress = progress
                    if picture.is_volume:
                        volume = Volume(_path_of(picture), view or View())
                        records = _write_volume(finder, picture, volume, wanted, folder, stem, formats)
                    else:
                        records = _write_image(finder, picture, wanted, folder, stem, formats)
                    write_text(mark, json.dumps({"source": source, "images": records}))
            except Exception as error:  # whatever is wrong with one image, the others are done
                if finder is None and not isinstance(error, InputError):
                    raise
                told = str(error) if isinstance(error, InputError) else f"{type(error).__name__}: {error}"
                problems.append(f"{picture.name}: {told}")
            if progress and task is not None:
                progress.advance(task)
    done = [image for mark in marks if mark.is_file() for image in read_mark(mark)["images"]]
    write_coco(folder / "instances.json", done)
    number, objects = sum(mark.is_file() for mark in marks), sum(len(image["annotations"]) for image in done)
    sizes = [(image["height"], image["width"]) for image in done]
    return Outcome(number, objects, problems, tuple(_hints(finder, wanted, sizes, objects)) if finder else ())


def _hints(finder: Finder, wanted: Wanted, sizes: Sequence[tuple[int, int]], num_objects: int) -> Iterator[str]:
    """Yield what a person may want to change who expected more objects."""
    side = finder.predictor.model.preprocessing.image_size
    if finder.tiling.side is None and (larger := sum(max(size) > _MUCH_LARGER * side for size in sizes)):
        yield (
            f"hint: {larger} of {len(sizes)} images over {_MUCH_LARGER} times as large as the {side} pixels that the "
            f"model looks at; tile.side={4 * side} looks at them part by part and sees smaller objects"
        )
    if wanted.everything and num_objects < len(sizes) and (hint := finder.generator.settings.hint("grid")):
        yield hint


def is_done(mark: Path, source: str, path: Path | None, wanted: Wanted) -> bool:
    """Tell whether this image or video was done, and neither it nor what decides was changed since."""
    if not mark.is_file() or read_mark(mark)["source"] != source:
        return False
    sources = wanted.files if path is None else (path, *wanted.files)
    return all(source.stat().st_mtime <= mark.stat().st_mtime for source in sources)


def read_mark(mark: Path) -> dict[str, Any]:
    """Return what was kept of an image or video that is done: its source, and the records of its images."""
    return json.loads(mark.read_text(encoding="utf-8"))


def _path_of(picture: Picture) -> Path:
    assert picture.path is not None
    return picture.path


def _write_image(
    finder: Finder, picture: Picture, wanted: Wanted, folder: Path, stem: str, formats: Sequence[str]
) -> list[dict[str, Any]]:
    pixels = picture.read()
    found = wanted.find(finder, picture.name, pixels)
    place = read_georeference(picture.path) if picture.path else None
    labels = found.label_image() if {"labels", "overlays"} & set(formats) else None
    if labels is not None and "labels" in formats:
        is_tiff = picture.path is not None and picture.path.suffix.lower() in (".tif", ".tiff")
        write_labels(folder / "labels" / stem, labels, place, is_tiff)
    if labels is not None and "overlays" in formats:
        write_overlay(folder / "overlays" / f"{stem}.png", pixels, labels)
    if "polygons" in formats:
        write_geojson(folder / "polygons" / f"{stem}.geojson", found, place)
    return [_record(picture.name, found)]


def _write_volume(
    finder: Finder, picture: Picture, volume: Volume, wanted: Wanted, folder: Path, stem: str, formats: Sequence[str]
) -> list[dict[str, Any]]:
    """Find the objects of each slice, as ``<volume>/<number of the slice>``, and write one label volume."""
    records, planes, number = [], [], 0
    for index, pixels in enumerate(watched(volume.slices(), len(volume), finder.progress, "slices")):
        name = f"{picture.name}/{index}"
        found = wanted.find(finder, name, pixels)
        labels = found.label_image().astype(np.int32)
        planes.append(np.where(labels > 0, labels + number, 0))
        number += len(found)
        records.append(_record(name, found))
        if "overlays" in formats:
            write_overlay(folder / "overlays" / stem / f"{index:04}.png", pixels, labels)
        if "polygons" in formats:
            write_geojson(folder / "polygons" / stem / f"{index:04}.geojson", found, None)
    if "labels" in formats:
        dtype = np.int16 if number < 1 << 15 else np.int32
        volume.write_labels(folder / "labels" / f"{stem}{volume.label_suffix}", np.stack(planes).astype(dtype))
    return records


def _record(name: str, found: Instances) -> dict[str, Any]:
    height, width = found.size
    return {"file_name": name, "height": height, "width": width, "annotations": coco_annotations(found)}


def _picture(path: Path, name: str, tones: Tones) -> Picture:
    return Picture(name, lambda: str(path.absolute()), lambda: read_image(path, tones=tones), path)


def stems_of(names: Sequence[str]) -> list[str]:
    """Return names without suffixes, and with them where two would be the same."""
    short = [_without_suffix(name) for name in names]
    counts = Counter(short)
    stems = [stem if counts[stem] == 1 else name for stem, name in zip(short, names, strict=True)]
    return stems if len(set(stems)) == len(stems) else [*names]


def _without_suffix(name: str) -> str:
    for suffix in (*volumes.SUFFIXES[::-1], *SUFFIXES, *VIDEOS):
        if name.lower().endswith(suffix):
            return name[: -len(suffix)]
    return name


@contextmanager
def _images_of_any_size() -> Iterator[None]:
    """Have Pillow open images of more pixels than it thinks safe: whoever names a folder trusts its images."""
    most = Image.MAX_IMAGE_PIXELS
    Image.MAX_IMAGE_PIXELS = None
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = most
