"""Each set of real images trains from the command line with its experiment, as it lies there."""

import pytest

from tests.e2e.commands import SMALL, run
from tests.parity.reference import SHARED

DATA = SHARED / "data"
SETTINGS = [setting for setting in SMALL if not setting.startswith(("data.", "trainer.max_steps"))]
SETTINGS += ["trainer.max_steps=2", "loader.max_val_images=1", "evaluation.protocols=[box]", "evaluation.pictures=1"]
SETTINGS += ["data.check=false"]  # which reads every image; tests of sources do
FEW = ["data.split=[0.94,0.03,0.03]"]
SETS = {
    "balloon": FEW,
    "buildings_aerial": FEW,
    "dicom_ct_seg/liver_3slice": [],
    "em_axon_myelin": [],
    "fruits_nuts": FEW,
    "med2d_mini/polyp": [],
    "mri_hippocampus": FEW,
    "nuclei_fluorescence": FEW,
    "nuclei_histology": FEW,
    "video_davis2016": [],
    "video_pumavos": [],
    "volumes_mixed": FEW,
}
LONG = ("em_axon_myelin", "nuclei_histology", "volumes_mixed")
ELSEWHERE = ("dicom_ct_seg/liver_3slice", "fruits_nuts", "mri_hippocampus")  # the same data in test_real_sources

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*exists and is not empty"),
    pytest.mark.filterwarnings("ignore:.*those of val serve"),
    pytest.mark.filterwarnings("ignore:.*is the only patient"),
    pytest.mark.filterwarnings("ignore:.*82 of 87 images have no mask"),
    pytest.mark.filterwarnings("ignore:.*images have no object"),
    pytest.mark.skipif(not DATA.is_dir(), reason=f"no real data at {DATA}"),
]


@pytest.mark.parametrize(
    "folder", [pytest.param(one, marks=[pytest.mark.slow] * (one in (*LONG, *ELSEWHERE))) for one in SETS]
)
def test_an_experiment_trains_on_its_set(tmp_path, monkeypatch, folder):
    name = folder.split("/")[0]
    given = [f"experiment={name}", f"data.root={DATA / folder}", *SETS[folder], *SETTINGS]
    run("train", monkeypatch, *given, f"output={tmp_path / 'run'}")
    assert (tmp_path / "run" / "best.ckpt").is_file()
    assert (tmp_path / "run" / "report.html").is_file()


def test_every_set_has_an_experiment():
    assert {folder.split("/")[0] for folder in SETS} == {path.name for path in DATA.iterdir() if path.is_dir()}
