"""SA-1B's tars and folders: every image is read alone, in any order, and what is broken is named with its tar."""

import gzip
import io
import json
import tarfile

import numpy as np
import pytest
import torch
from PIL import Image

from sam_train.data.loading.dataset import TrainDataset
from sam_train.data.loading.loader import ResumableLoader
from sam_train.data.loading.sampler import TrainBatches
from sam_train.data.sources.base import no_objects
from sam_train.data.sources.check import check_sources
from sam_train.data.sources.sa1b import images as sa1b_images
from sam_train.data.sources.sa1b import tar_index
from sam_train.data.sources.sa1b.source import Sa1bSource
from sam_train.data.sources.skipping import begin_skipping, skipped_of, splits_of
from sam_train.errors import FileError, InputError
from tests.data.cache.embeddings import SAM
from tests.data.sources.sa1b_files import SIZE, files, labels, make_folder, make_tars, photo, record, write_tar

ALL = {"split": (0, 0, 1)}


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def everything(root, **options):
    return Sa1bSource(str(root), **ALL, **options).splits()["test"]


def assert_holds(images, index, number):
    sample = images.read(index)
    expected = [labels(number) == value for value in (1, 2)]
    assert sample.masks().numpy().tolist() == np.stack(expected).tolist()
    assert sample.image.shape == (3, *SIZE)
    assert sample.size == images.read(index, with_image=False).size


@pytest.mark.parametrize("layout", ["tars", "folder", "one tar"])
def test_tars_and_folders_hold_the_same(tmp_path, layout):
    if layout == "tars":
        images, ids = everything(make_tars(tmp_path / "set")), [f"sa_{n // 4:06}/sa_{n}" for n in range(12)]
    elif layout == "folder":
        images, ids = everything(make_folder(tmp_path / "set", range(3))), ["sa_0", "sa_1", "sa_2"]
    else:
        images = everything(write_tar(tmp_path / "set" / "a.tar", files(range(3))))
        ids = ["a/sa_0", "a/sa_1", "a/sa_2"]
    assert list(images.ids) == ids
    for index in range(len(images)):
        assert_holds(images, index, index)
    check_sources({"test": images})
    assert len({images.identity(index) for index in range(len(images))}) == len(images)


def test_masks_that_are_not_wanted_are_not_decoded(tmp_path, monkeypatch):
    images = everything(make_tars(tmp_path / "set", 1, 1))
    decoded = []
    monkeypatch.setattr(
        sa1b_images.Outlines, "mask", lambda *args, of=sa1b_images.Outlines.mask: decoded.append(args[1]) or of(*args)
    )
    images.read(0, no_objects)
    assert decoded == []
    sample = images.read(0, lambda shares: torch.tensor([int(shares.argmin())]))
    assert decoded == [1]
    assert sample.value.tolist() == [2]


def test_headers_are_read_once(tmp_path, monkeypatch):
    root = make_tars(tmp_path / "set")
    first = list(everything(root).ids)
    read = []
    read_headers = tar_index.read_headers
    monkeypatch.setattr(tar_index, "read_headers", lambda path: read.append(path) or read_headers(path))
    again = everything(root)
    assert list(again.ids) == first
    assert read == []
    assert_holds(again, 5, 5)
    write_tar(root / "sa_000001.tar", files(range(20, 23)))  # another file of the name
    changed = everything(root)
    assert [path.name for path in read] == ["sa_000001.tar"]
    assert "sa_000001/sa_20" in changed.ids
    for stored in (tmp_path / "cache").rglob("*.npz"):
        stored.write_bytes(b"damaged")
    assert list(everything(root).ids) == list(changed.ids)


def test_names_of_tars_and_folders_say_splits(tmp_path):
    for split, numbers in {"train": range(3), "val": range(3, 5), "test": range(5, 6)}.items():
        write_tar(tmp_path / "names" / f"{split}-000000.tar", files(numbers))
        write_tar(tmp_path / "folders" / split / "000000.tar", files(numbers))
        make_folder(tmp_path / "loose" / split, numbers)
    for root in ("names", "folders", "loose"):
        splits = Sa1bSource(str(tmp_path / root)).splits()
        assert {split: len(images) for split, images in splits.items()} == {"train": 3, "val": 2, "test": 1}
        assert_holds(splits["val"], 0, 3)
    with pytest.raises(InputError, match="both say how to split"):
        Sa1bSource(str(tmp_path / "names"), split=(0.5, 0.25, 0.25)).splits()
    write_tar(tmp_path / "names" / "more.tar", files([7]))
    with pytest.raises(InputError, match=r"the name of more/sa_7 says no split, those of others do"):
        Sa1bSource(str(tmp_path / "names")).splits()


def test_shares_keep_groups_whole(tmp_path):
    make_tars(tmp_path / "set", 4, 4)
    splits = Sa1bSource(str(tmp_path / "set"), split=(0.5, 0.25, 0.25), group_pattern=r"^(sa_\d+)/").splits()
    tars = {split: {name.split("/")[0] for name in images.ids} for split, images in splits.items()}
    assert [len(found) for found in tars.values()] == [2, 1, 1]
    assert splits["train"].group(0) in tars["train"]


def test_an_epoch_mixes_a_few_tars_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(sa1b_images, "TARS_AT_ONCE", 2)
    images = everything(make_tars(tmp_path / "set", 6, 3))
    first, second = (images.shuffled(torch.Generator().manual_seed(seed)).tolist() for seed in (0, 1))
    assert sorted(first) == sorted(second) == list(range(18))
    assert first != second
    for start in (0, 6, 12):
        window = [images.ids[index].split("/")[0] for index in first[start : start + 6]]
        assert len(set(window)) == 2
        assert sorted(window) != window or window[0] != window[2]


def stream(images, num_workers, stops):
    """Ids, masks and draws of three epochs of one process, stopped after these batches and begun anew each time."""
    seen, total = [], 27
    for stop in (*stops, total):
        dataset = TrainDataset(images, SAM, None, 4, 1, 0)
        batches = TrainBatches(len(dataset), 2, 0, 0, 1, images.shuffled)
        loader = ResumableLoader(dataset, batches, num_workers=num_workers)
        loader.load_state_dict({"seen": len(seen)})
        for batch in (batch for _ in range(9) for batch in loader):
            seen.append((batch.ids, batch.masks.sum().item(), batch.draws.sum().item()))
            if len(seen) == stop:
                break
    return seen


@pytest.mark.parametrize("num_workers", [0, 2])
def test_two_stops_in_the_middle_of_epochs_change_nothing(tmp_path, num_workers):
    root = make_tars(tmp_path / "set", 6, 3)
    whole = stream(everything(root), 0, ())
    assert len(whole) == 27
    assert stream(everything(root), num_workers, (4, 13)) == whole


def test_categories_crowds_and_polygons_are_read_too(tmp_path):
    what = record()
    what["annotations"][0] |= {"category": "cell", "iscrowd": 1}
    what["annotations"][1] |= {"category": "debris", "segmentation": [[6, 6, 9, 6, 9, 8, 6, 8]]}
    write_tar(tmp_path / "a.tar", [("x.jpg", photo(0)), ("x.json", json.dumps(what).encode())])
    sample = everything(tmp_path).read(0)
    assert sample.category == ("cell", "debris")
    assert sample.crowd.tolist() == [True, False]
    assert sample.masks()[1].sum() == 6


def test_boxes_and_points_of_annotations_are_given(tmp_path):
    what = record()
    what["annotations"][0]["point_coords"] = [[2.5, 1.5]]
    del what["annotations"][1]["bbox"]
    write_tar(tmp_path / "a.tar", [("x.jpg", photo(0)), ("x.json", json.dumps(what).encode())])
    prompts = everything(tmp_path).read(0).prompts
    assert prompts.points[0].tolist() == [[1, 1], [5, 4], [2.5, 1.5]]
    assert prompts.labels.tolist() == [[2, 3, 1], [-1, -1, -1]]


def test_groups_and_spacing_of_images_are_read(tmp_path):
    what = record(image={"height": SIZE[0], "width": SIZE[1], "group": "patient 3", "spacing": [0.5, 0.25]})
    write_tar(tmp_path / "test-0.tar", [("x.jpg", photo(0)), ("x.json", json.dumps(what).encode()), *files([1])])
    images = Sa1bSource(str(tmp_path)).splits()["test"]
    assert [images.group(0), images.group(1)] == ["patient 3", "test-0/sa_1"]
    assert [images.read(0).group, images.read(0).spacing] == ["patient 3", (0.5, 0.25)]
    assert images.read(1).spacing is None


@pytest.mark.filterwarnings("ignore:.*those of val serve")
def test_more_than_8_bits_become_8_by_the_common_rule(tmp_path):
    for number, brightest in enumerate((1000, 4000)):
        file = io.BytesIO()
        Image.fromarray(np.linspace(0, brightest, 192).reshape(SIZE).astype(np.uint16)).save(file, "PNG")
        members = [("x.png", file.getvalue()), ("x.json", json.dumps(record()).encode())]
        write_tar(tmp_path / f"train-{number}.tar", members)
    write_tar(tmp_path / "val-0.tar", members)
    source = Sa1bSource(str(tmp_path), percentiles_of="set", percentiles=(0, 100))
    settled = source.settled()
    assert settled.window == ((0, 4000),)
    images = settled.splits()["train"]
    assert [int(images.read(index).image.max()) for index in (0, 1)] == [64, 255]


def link(name, target, kind=tarfile.SYMTYPE):
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member, b""


GOOD = [*files([0, 1])]
FAULTS = {
    "a repeated key": ([*GOOD, ("sa_0.jpg", photo(9))], r"repeated key: .*set/a.tar: sa_0.jpg is there twice"),
    "an image alone": ([*GOOD, ("sa_9.jpg", photo(9))], r"record without JSON: .*a.tar: sa_9 has no JSON"),
    "a way out": (
        [*GOOD, ("../sa_9.jpg", photo(9))],
        r"name leads out of the tar: .*a.tar: '../sa_9.jpg' is absolute, goes up",
    ),
    "an absolute name": ([*GOOD, ("/etc/sa_9.json", b"{}")], r"name leads out of the tar: .*a.tar: '/etc/sa_9.json'"),
    "a link": ([*GOOD, link("sa_9.jpg", "/etc/passwd")], r"no plain member: .*a.tar: sa_9.jpg is a link"),
    "a hard link": ([*GOOD, link("sa_9.jpg", "sa_0.jpg", tarfile.LNKTYPE)], r"no plain member: .*a.tar: sa_9.jpg"),
    "a torn image": (
        [*GOOD, ("sa_9.jpg", photo(9)[:300]), ("sa_9.json", json.dumps(record(9)).encode())],
        r"unreadable file: .*a.tar/sa_9.jpg",
    ),
    "torn JSON": (
        [*GOOD, ("sa_9.jpg", photo(9)), ("sa_9.json", json.dumps(record(9)).encode()[:50])],
        r"damaged JSON: .*a.tar/sa_9.json: no complete JSON",
    ),
    "other JSON": (
        [*GOOD, ("sa_9.jpg", photo(9)), ("sa_9.json", b'{"image": {}, "boxes": []}')],
        r"no SA-1B file: .*a.tar/sa_9.json: has no list of annotations, but image, boxes",
    ),
    "run lengths of another size": (
        [
            *GOOD,
            ("sa_9.jpg", photo(9)),
            ("sa_9.json", json.dumps(record(9)).replace(f'"size": [{SIZE[0]}, ', '"size": [7, ').encode()),
        ],
        r"run lengths of another size: .*a.tar/sa_9.json: annotation 0: run lengths of 7 x 16",
    ),
    "another image": (
        [
            *GOOD,
            ("sa_9.jpg", photo(9)),
            ("sa_9.json", json.dumps(record(9, image={"height": 99, "width": 16})).encode()),
        ],
        r"size mismatch: .*a.tar/sa_9.jpg: 12 x 16, but its JSON says 99 x 16",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_named_or_left_out(tmp_path, fault):
    members, expected = FAULTS[fault]
    root = write_tar(tmp_path / "set" / "a.tar", members).parent
    with pytest.raises(InputError, match=expected.split(": ", 1)[1]):
        check_sources({"test": everything(root)})
    splits = splits_of(Sa1bSource(str(root), **ALL, on_error="skip"), tmp_path)
    begin_skipping(splits)
    check_sources(splits)
    images = splits["test"].readable()
    assert list(images.ids) == ["a/sa_0", "a/sa_1"]
    assert_holds(images, 1, 1)
    (one,) = skipped_of(splits).all()
    assert one["kind"] in expected
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache", "set", "skipped.jsonl"]  # nothing unpacked


def within_the_last(content, members):
    return content[: members[-1].offset_data + 10]


def after_the_last(content, members):
    return content[: members[-1].offset_data + 512 * -(-members[-1].size // 512)]


def a_header(content, members):
    return content[: members[2].offset] + b"\1" * 512 + content[members[2].offset_data :]


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (within_the_last, r"truncated tar: .*a.tar: unexpected end of data, after ./sa_2.json"),
        (after_the_last, r"truncated tar: .*a.tar: ends after ./sa_2.json, without the zeros"),
        (a_header, r"broken member: .*a.tar: what follows ./sa_0.json at byte \d+ is no member"),
    ],
)
def test_a_damaged_tar_is_named_and_its_first_records_may_serve(tmp_path, damage, expected):
    path = write_tar(tmp_path / "set" / "a.tar", files(range(3)))
    with tarfile.open(path) as tar:
        members = tar.getmembers()
    path.write_bytes(damage(path.read_bytes(), members))
    with pytest.raises(FileError, match=expected):
        everything(path.parent, check=False)
    splits = splits_of(Sa1bSource(str(path.parent), **ALL, on_error="skip", check=False), tmp_path)
    begin_skipping(splits)
    assert [one["kind"] for one in skipped_of(splits).all()] == [expected.split(": ")[0]]
    assert_holds(splits["test"], 0, 0)


def test_a_size_that_no_image_has_takes_no_memory(tmp_path):
    side = 1_000_000
    what = record(image={"height": side, "width": side})
    what["annotations"][0]["segmentation"] = {"size": [side, side], "counts": [0, side * side]}
    write_tar(tmp_path / "a.tar", [("x.jpg", photo(0)), ("x.json", json.dumps(what).encode())])
    with pytest.raises(FileError, match="run lengths of another size"):
        everything(tmp_path).read(0, with_image=False)


def test_what_is_no_plain_tar_is_told(tmp_path):
    write_tar(tmp_path / "set" / "a.tar", GOOD)
    for content, expected in {
        gzip.compress((tmp_path / "set" / "a.tar").read_bytes()): r"compressed tar \(1\): .*gunzip",
        b"no tar at all" * 99: r"no tar \(1\): ",
        b"": r"empty file \(1\): ",
    }.items():
        (tmp_path / "set" / "b.tar").write_bytes(content)
        with pytest.raises(InputError, match=expected):
            check_sources({"test": everything(tmp_path / "set")})
    (tmp_path / "none").mkdir()
    with pytest.raises(InputError, match="no image with a JSON file of its name"):
        everything(tmp_path / "none")


def test_a_tar_cut_after_it_was_indexed_is_told(tmp_path):
    images = everything(make_tars(tmp_path / "set", 1, 3))
    path = tmp_path / "set" / "sa_000000.tar"
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(FileError, match=r"truncated tar: .*sa_000000.tar: ends within sa_2"):
        images.read(2)
    path.unlink()
    with pytest.raises(FileError, match="unreadable tar"):
        images.read(0)
