"""Settings that may be a path or a word keep the word, whatever lies in the folder one stands in."""

from omegaconf import OmegaConf

from sam_train.cli.build import model_choice


def test_a_folder_called_random_does_not_change_random_weights(tmp_path, monkeypatch):
    for name in ("random", "sam_nano"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path)
    for word in ("random", "sam_nano"):
        choice = OmegaConf.create({"preset": "sam_nano", "weights": word, "image_size": 64})
        assert model_choice(choice).source() == word


def test_weights_in_the_folder_one_stands_in_have_an_absolute_path(tmp_path, monkeypatch):
    (tmp_path / "weights.pth").touch()
    monkeypatch.chdir(tmp_path)
    choice = OmegaConf.create({"preset": "sam_nano", "weights": "weights.pth", "image_size": 64})
    assert model_choice(choice).source() == str(tmp_path / "weights.pth")
