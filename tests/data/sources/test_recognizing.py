"""A folder that is plainly of one kind is recognized; one that can be read in two ways is not guessed at."""

import pytest

from sam_train.cli.guess import with_kind_of_data
from sam_train.data.sources.recognizing import Found, recognize
from sam_train.errors import InputError
from tests.data.sources import sa1b_files
from tests.data.sources.coco_files import make_coco
from tests.data.sources.folders import make_folder
from tests.data.sources.sa1b_files import make_tars, write_tar
from tests.data.sources.volume_files import make_volumes, write_series
from tests.parity.reference import SHARED

DATA = SHARED / "data"
FOLDER = Found(("data=folder",), "images/ and masks/, 10 images")
COCO = Found(("data=coco",), "COCO json (annotations.json), 2 categories, 10 images")
VOLUMES = Found(("data=volume",), "6 volumes in imagesTr/ and their labels in labelsTr/")


def test_plain_folders_are_recognized(tmp_path, capsys):
    make_folder(tmp_path / "a")
    make_coco(tmp_path / "b")
    make_volumes(tmp_path / "c")
    write_series(tmp_path / "d")
    make_tars(tmp_path / "e", 3)
    sa1b_files.make_folder(tmp_path / "f", range(5))
    dicom = Found(("data=volume",), "4 DICOM files")
    tars = Found(("data=sa1b",), "3 tars of images and JSON")
    loose = Found(("data=sa1b",), "5 images with their masks in JSON beside them")
    expectations = {"a": FOLDER, "b": COCO, "c": VOLUMES, "d": dicom, "e": tars, "f": loose}
    for name, expected in expectations.items():
        assert recognize(tmp_path / name) == [expected]
        given = ["seed=1", f"data.root={tmp_path / name}"]
        assert with_kind_of_data(given) == [*given, *expected.words]
        assert capsys.readouterr().out == f"found {expected.what}: {expected.words[0]}\n"


def test_split_folders_and_masks_of_other_names_are_recognized(tmp_path):
    for split in ("train", "val"):
        make_folder(tmp_path / "a" / split)
    assert recognize(tmp_path / "a") == [Found(("data=folder",), "images/ and masks/, 20 images")]
    make_folder(tmp_path / "b")
    (tmp_path / "b" / "masks").rename(tmp_path / "b" / "masks_cell")
    found = Found(("data=folder", "data.masks=masks_cell"), "images/ and masks_cell/, 10 images")
    assert recognize(tmp_path / "b") == [found]


def test_tars_and_json_of_other_things_are_not_taken_for_images(tmp_path):
    write_tar(tmp_path / "a" / "a.tar", [("a.txt", b"x"), ("a.json", b"{}")])
    (tmp_path / "a" / "b.tar").write_bytes(b"no tar")
    make_folder(tmp_path / "b")
    (tmp_path / "b" / "images" / "p0_0.json").write_text('{"notes": "p0_0.png"}')
    assert recognize(tmp_path / "a") == []
    assert recognize(tmp_path / "b") == [FOLDER]


def test_where_two_readings_are_possible_both_are_listed_with_the_words_that_choose(tmp_path):
    make_coco(make_folder(tmp_path))
    with pytest.raises(InputError, match=r"may be read in 2 ways; say which by adding") as error:
        with_kind_of_data([f"data.root={tmp_path}"])
    for found in recognize(tmp_path):
        assert f"{found.words[0]:30} {found.what}" in str(error.value)


def test_where_nothing_is_recognized_it_is_said_what_was_looked_for(tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"x")
    with pytest.raises(InputError, match=r"neither images/ with masks/, nor a COCO json[\s\S]*a\.mp4: this is a video"):
        with_kind_of_data([f"data.root={tmp_path}"])
    with pytest.raises(InputError, match="no such file or folder"):
        with_kind_of_data([f"data.root={tmp_path}/gone"])


@pytest.mark.parametrize("words", ["data=folder", "experiment=balloon", "--config-dir=conf"])
def test_what_was_said_is_not_guessed(tmp_path, words):
    given = [words, f"data.root={tmp_path}"]
    assert with_kind_of_data(given) == given


@pytest.mark.skipif(not DATA.is_dir(), reason=f"no real data at {DATA}")
@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("fruits_nuts", ["data=coco"]),
        ("balloon", ["data=folder", "data=coco"]),
        ("nuclei_fluorescence", ["data=folder"]),
        ("em_axon_myelin", [f"data=folder data.masks=masks_{kind}" for kind in ("instance", "original", "semantic")]),
        ("mri_hippocampus", ["data=volume"]),
        ("volumes_mixed/nifti", ["data=volume"]),
        ("dicom_ct_seg/liver_3slice", ["data=volume"]),
        ("med2d_mini/polyp", ["data=folder"]),
    ],
)
def test_real_sets_are_recognized(name, words):
    assert [" ".join(found.words) for found in recognize(DATA / name)] == words
