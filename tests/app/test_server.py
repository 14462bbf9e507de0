"""What the page asks and what is answered."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from sam_train.app.objects import LabeledObject
from sam_train.app.pictures import pictures_of_source
from sam_train.app.server import MOST_BYTES, make_app
from sam_train.data.sources.folder import FolderSource
from sam_train.inference.run_lengths import RunLengths
from sam_train.runs.opening import open_predictor
from tests.app.conftest import SIZE, disc
from tests.e2e.commands import write_squares

TOKEN = "word"


@pytest.fixture
def labeling(open_page):
    return open_page(categories=["disc", "ring"])


@pytest.fixture
def client(labeling):
    with TestClient(make_app(labeling, TOKEN), base_url=f"http://127.0.0.1/{TOKEN}/") as client:
        yield client


def masks(answer) -> np.ndarray:
    changes = [np.cumsum(one["lengths"])[:-1] for one in answer.json()]
    return RunLengths(np.concatenate(changes), np.array([*map(len, changes)]), SIZE).masks().numpy()


def lengths(mask: np.ndarray) -> list[int]:
    changes = np.flatnonzero(np.diff(mask.T.ravel(), prepend=False))
    return np.diff(changes, prepend=0, append=mask.size).tolist()


def click(x, y, label=1):
    return {"point": [x, y], "label": label}


def clicked(client, *steps, image=0):
    return client.post(f"api/images/{image}/masks", json={"steps": steps})


def accepted(client, image=0, objects=None, **more):
    objects = objects or [{"lengths": lengths(disc(20, 24)), "category": "disc", "clicks": 2}]
    return client.put(f"api/images/{image}/objects", json={"objects": objects, **more})


def test_clicks_make_masks_each_refining_the_one_before(client, photos):
    answer = clicked(client, click(20, 24), click(48, 20, 0))
    assert [one["model"] for one in answer.json()] == ["untuned"]
    predictor = open_predictor("sam2_nano", image_size=64, device="cpu")
    predictor.set_image(photos / "0.png")
    first = predictor.predict([[20, 24]])
    second = predictor.predict([[[20, 24], [48, 20]]], [[1, 0]], masks=first.logits)
    np.testing.assert_array_equal(masks(answer)[0], second.masks[0, 0].numpy())


def test_a_box_makes_a_mask(client):
    found = masks(clicked(client, {"box": [8, 12, 32, 36]}))[0]
    assert found[24, 20]
    assert not found[:, 40:].any()


def test_two_people_who_label_at_once_do_not_meet(client, labeling):
    with TestClient(make_app(labeling, "other"), base_url="http://127.0.0.1/other/") as other:
        alone = [clicked(client, click(20, 24)).json(), clicked(client, click(20, 24), click(25, 30)).json()]
        labeling.models._answers.clear()
        mixed = [clicked(client, click(20, 24)).json()]
        clicked(other, click(48, 20))
        clicked(other, click(48, 20), click(5, 5, 0), image=2)
        mixed.append(clicked(client, click(20, 24), click(25, 30)).json())
    assert mixed == alone


def test_a_click_is_answered_while_another_image_is_encoded(client, labeling):
    labeling.models.prepare(0, labeling.pictures[0].pixels)
    begun, answered = threading.Event(), threading.Event()

    def read():
        begun.set()
        assert answered.wait(60)
        return labeling.pictures[1].pixels()

    with ThreadPoolExecutor(1) as other:
        preparing = other.submit(labeling.models.prepare, 1, read)
        assert begun.wait(60)
        try:
            found = masks(clicked(client, click(20, 24)))
        finally:
            answered.set()
        preparing.result()
    assert found.any()


def test_an_image_is_shown_upright_at_its_size_with_the_pixels_that_models_see(client):
    answer = client.get("api/images/1/pixels")
    assert answer.headers["content-type"] == "image/jpeg"
    assert answer.content[:2] == b"\xff\xd8"


def test_what_is_accepted_is_there_when_the_page_is_loaded_anew(client, labeling):
    assert accepted(client).json()["saved"]
    found = client.get("api/images/0/objects").json()
    assert found["saved"]
    assert [(one["category"], one["clicks"], one["lengths"]) for one in found["objects"]] == [
        ("disc", 2, lengths(disc(20, 24)))
    ]
    state = client.get("api/state").json()
    assert [one["saved"] for one in state["images"]] == [True, False, False, False]
    assert state["clicks"] == [{"model": 0, "objects": 1, "clicks": 2}]
    assert state["categories"] == ["disc", "ring"]
    assert (labeling.saved.folder / "masks" / "0.png").is_file()


def test_a_second_window_is_told_that_the_image_was_accepted_meanwhile(client):
    revision = accepted(client).json()["revision"]
    answer = accepted(client)
    assert answer.status_code == 409
    assert "was accepted in another window meanwhile" in answer.json()["detail"]
    assert accepted(client, revision=revision).status_code == 200


def test_an_image_that_does_not_decode_is_named(client):
    names = [one["name"] for one in client.get("api/state").json()["images"]]
    broken = names.index("broken.png")
    for answer in (client.get(f"api/images/{broken}/pixels"), clicked(client, click(1, 1), image=broken)):
        assert answer.status_code == 422
        assert "broken.png: none of PNG, JPEG, TIFF, BMP and WebP that can be read" in answer.json()["detail"]
    assert "broken.png" in client.get("api/state").json()["images"][broken]["problem"]


@pytest.mark.parametrize("path", ["", "api/state", "app.js", "api/images/0/pixels"])
@pytest.mark.parametrize("word", ["", "/wrong", "/word2", "/wor"])
def test_nothing_is_answered_without_the_word_in_the_address(client, path, word):
    answer = client.get(f"http://127.0.0.1{word}/{path}")
    assert answer.status_code == 403
    assert "Copy the whole address" in answer.text


@pytest.mark.parametrize(
    "path",
    [
        "../photos/0.png",
        "%2e%2e/photos/0.png",
        "static/../server.py",
        "api/images/..%2f0/pixels",
        "api/images/-1/pixels",
    ],
)
def test_no_file_is_reached_by_its_path(client, path):
    assert client.get(f"http://127.0.0.1/{TOKEN}/{path}").status_code in (403, 404, 422)


def test_an_image_that_is_not_opened_is_unknown(client):
    assert client.get("api/images/99/pixels").status_code == 404


def test_what_is_too_large_is_refused_unread(client, labeling):
    def endless():
        for _ in range(MOST_BYTES // (1 << 20) + 2):
            yield b" " * (1 << 20)

    for body in (b" " * (MOST_BYTES + 1), endless()):
        answer = client.put("api/images/0/objects", content=body, headers={"content-type": "application/json"})
        assert answer.status_code == 413
        assert "more than 32 MB" in answer.json()["detail"]
    assert len(labeling.saved) == 0


@pytest.mark.parametrize(
    "steps",
    [
        [],
        [{}],
        [{"point": [1, 2], "box": [1, 2, 3, 4]}],
        [{"point": [1]}],
        [{"point": [1, 2], "label": 3}],
        [{"point": [1e99, 2]}],
        [{"point": [500, 2]}],
        [{"box": [9, 9, 1, 1]}],
        [{"path": "/etc/passwd"}],
        [click(1, 1)] * 101,
    ],
)
def test_steps_that_make_no_sense_are_refused(client, steps):
    assert clicked(client, *steps).status_code == 422


def test_numbers_that_are_none_are_refused(client):
    answer = client.post("api/images/0/masks", content=b'{"steps": [{"point": [NaN, 1]}]}')
    assert answer.status_code == 422


@pytest.mark.parametrize("lengths", [[2**63], [2**63 - 1, 2**63 - 1, SIZE[0] * SIZE[1] + 2], [-1, 1]])
def test_lengths_of_no_image_are_refused(client, lengths):
    assert accepted(client, objects=[{"lengths": lengths, "category": ""}]).status_code == 422


def test_an_address_without_its_last_slash_leads_to_the_page(client):
    answer = client.get(f"http://127.0.0.1/{TOKEN}", follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (307, f"/{TOKEN}/")


def test_masks_of_another_size_are_refused(client, labeling):
    answer = accepted(client, objects=[{"lengths": [7], "category": ""}])
    assert answer.status_code == 422
    assert "a mask of 7 pixels for an image of 48 x 64" in answer.json()["detail"]
    assert len(labeling.saved) == 0


def test_the_page_loads_nothing_from_elsewhere(client):
    page = client.get("")
    assert "default-src 'self'" in page.headers["content-security-policy"]
    for path in ("", "app.js", "app.css"):
        text = client.get(path).text
        assert "http://" not in text
        assert "https://" not in text


def test_objects_of_a_data_source_are_there_to_be_corrected(tmp_path, open_page):
    write_squares(tmp_path / "set", 4)
    labeling = open_page(pictures=pictures_of_source(FolderSource(str(tmp_path / "set"))))
    (known,) = labeling.objects(0)["objects"]
    name = labeling.pictures[0].name
    with Image.open(tmp_path / "set" / "masks" / f"{name}.png") as mask:
        assert known["lengths"] == lengths(np.array(mask) > 0)
    assert not labeling.objects(0)["saved"]
    labeling.accept(0, [LabeledObject(known["lengths"])], None)
    assert (tmp_path / "labels" / "images" / f"{name}.png").is_file()
