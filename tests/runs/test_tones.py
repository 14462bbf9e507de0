"""How stored numbers become 8 bits is the run's: what was computed for training is used wherever the model goes."""

from dataclasses import replace

import numpy as np
import pytest
import tifffile
import torch

from sam_train.data.loading.settings import Loading
from sam_train.data.sources.folder import FolderSource
from sam_train.data.sources.image_files import read_image
from sam_train.data.sources.several import SeveralSources
from sam_train.data.sources.tones import Tones, known_tones
from sam_train.inference.images import read_pixels
from sam_train.runs.evaluate import evaluate
from sam_train.runs.fit import fit
from sam_train.runs.opening import as_in_training, image_tones, open_predictor, shown_alike
from sam_train.runs.predict import list_pictures
from sam_train.runs.run import Run
from sam_train.runs.settings import Evaluation, ModelChoice, Settings
from tests.data.sources.folders import discs, save
from tests.data.sources.test_tones import write_tiff
from tests.e2e.commands import run as command

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*exists and is not empty"),
]


def spectral(seed):
    labels = discs(seed=seed)
    noise = np.random.default_rng(seed).normal(0, 30, (*labels.shape, 5))
    return np.stack([200.0 * labels * band for band in range(5)], -1) + noise + 900, labels


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("spectral")
    for seed in range(6):
        stored, labels = spectral(seed)
        write_tiff(folder / "images" / f"{seed}.tif", stored.astype(np.uint16))
        save(folder / "masks" / f"{seed}.png", labels)
    return folder


def settings(root):
    source = FolderSource(str(root), channels=[5, 3, 2], percentiles=[1, 99], percentiles_of="set")
    loading = Loading(batch_size=2, max_objects=3, min_area=4, num_workers=0)
    trainer = {"accelerator": "cpu", "max_steps": 1, "enable_progress_bar": False}
    evaluation = Evaluation(overlays=0, pictures=0, protocols=["box"])
    model = ModelChoice(image_size=64)
    return Settings(data=source, model=model, loader=loading, trainer=trainer, evaluation=evaluation)


@pytest.fixture(scope="module")
def trained(root, tmp_path_factory):
    return fit(settings(root), tmp_path_factory.mktemp("run") / "run")


def test_new_images_are_shown_by_the_numbers_of_the_training_set(root, trained, tmp_path):
    loaded = Run.load(trained.folder)
    window = loaded.record["config"]["data"]["window"]
    assert len(window) == 3
    assert trained.data is not None
    shown = {name: images.read(0).image for name, images in trained.data.splits.items()}
    for name, images in loaded.source().splits().items():
        assert torch.equal(images.read(0).image, shown[name])
    image = shown["test"]
    path = root / "images" / f"{trained.data.splits['test'].ids[0]}.tif"
    pictures = {picture.name: picture for picture in list_pictures(root / "images", image_tones(trained.folder))}
    assert torch.equal(pictures[path.name].read(), image)
    predictor = open_predictor(trained.checkpoint, device="cpu")
    stored = tifffile.imread(path)
    for given in (path, stored, torch.from_numpy(stored.transpose(2, 0, 1).astype(np.int32))):
        assert torch.equal(read_pixels(given, predictor.tones), image)
    other = as_in_training(FolderSource(str(root), split=(0, 0, 1)), trained.folder)
    first = read_image(root / "images" / "0.tif", tones=predictor.tones)
    assert torch.equal(other.splits()["test"].read(0).image, first)
    said = FolderSource(str(root), channels=[1])
    assert as_in_training(said, trained.folder) == said


def test_a_run_is_resumed_evaluated_and_exported_with_the_same_numbers(root, trained, tmp_path, monkeypatch, capsys):
    window = trained.record["config"]["data"]["window"]
    report = evaluate(Run.load(trained.folder), folder=tmp_path / "report")
    assert report.num_images == 1
    longer = replace(settings(root), trainer={**settings(root).trainer, "max_steps": 2})
    assert fit(longer, trained.folder, resume=True).record["config"]["data"]["window"] == window
    for kind, path in (("huggingface", tmp_path / "hf"), ("meta", tmp_path / "weights.pth")):
        command("export", monkeypatch, f"checkpoint={trained.folder}", f"format={kind}", f"path={path}")
        assert "how stored numbers became 8-bit images in training" in capsys.readouterr().out
        tones = image_tones(path)
        assert tones == image_tones(trained.folder)
        assert [list(one) for one in tones.windows] == [list(one) for one in window]
    assert image_tones(trained.folder, "lung") == replace(tones, windows=((-1350, 150),))


def test_a_run_on_several_sources_shows_new_images_as_all_of_them(root, trained):
    """Where the sources differ nothing is known of new images, which is said."""
    data = trained.record["config"]["data"]
    alike = {"_target_": "mixture", "parts": {"a": data, "b": data | {"root": "elsewhere"}}}
    assert known_tones(shown_alike(alike)) == image_tones(trained.folder)
    with pytest.warns(UserWarning, match=r"training data differ in data\.window; new images"):
        assert known_tones(shown_alike({"parts": {"a": data, "b": data | {"window": None}}})) == Tones()
    part = FolderSource(str(root), split=(0, 0, 1))
    mixed = as_in_training(SeveralSources({"one": part}), trained.folder)
    assert mixed == SeveralSources({"one": as_in_training(part, trained.folder)}) != SeveralSources({"one": part})
    own = FolderSource(str(root), channels=[1], percentiles_of="set")
    assert as_in_training(own, trained.folder) == own.settled() != own
