"""The page in a browser, by mouse and keyboard as a person uses it."""

import os
import shutil
import threading

import numpy as np
import pytest
import uvicorn
from PIL import Image

from sam_train.app.server import make_app
from sam_train.app.serving import take_port
from tests.app.conftest import SIZE

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
QUIET = ("disable-gpu", "disable-quic", "no-first-run", "disable-background-networking", "disable-component-update")

pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine (apt-get install chromium)"),
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*exists and is not empty"),
]


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        found = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", *(f"--{switch}" for switch in QUIET)]
        )
        yield found
        found.close()


@pytest.fixture
def serve(open_page):
    """Serves a page; returns its address and what is behind it."""
    running = []

    def served(**options):
        labeling, port = open_page(**options), take_port("127.0.0.1", 0)
        server = uvicorn.Server(uvicorn.Config(make_app(labeling, "word"), log_level="warning", access_log=False))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [port]})
        thread.start()
        running.append((server, thread, port))
        return f"http://127.0.0.1:{port.getsockname()[1]}/word/", labeling

    yield served
    for server, thread, port in running:
        server.should_exit = True
        thread.join()
        port.close()


class Person:
    """A page and what a person does on it; places are in pixels of the image."""

    def __init__(self, browser, address, width=1280):
        self.page = browser.new_page(viewport={"width": width, "height": 800})
        self.page.set_default_timeout(120_000)  # of a machine that does other work, too
        self.errors = []
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.goto(address)
        self.page.wait_for_selector("body[data-image]")
        self.idle()

    def idle(self):
        self.page.wait_for_selector("body[data-busy=false]")

    def place(self, x, y, panel="untuned"):
        box = self.page.locator(f"#{panel} canvas").bounding_box()
        scale = min(box["width"] / SIZE[1], box["height"] / SIZE[0])
        left, top = box["x"] + (box["width"] - SIZE[1] * scale) / 2, box["y"] + (box["height"] - SIZE[0] * scale) / 2
        return left + x * scale, top + y * scale

    def click(self, x, y, panel="untuned", **how):
        self.page.mouse.click(*self.place(x, y, panel), **how)
        self.idle()

    def drag(self, *places):
        self.page.mouse.move(*self.place(*places[0]))
        self.page.mouse.down()
        for place in places[1:]:
            self.page.mouse.move(*self.place(*place), steps=5)
        self.page.mouse.up()
        self.idle()

    def press(self, *keys):
        for key in keys:
            self.page.keyboard.press(key)
            self.idle()

    def pixels(self):
        """Of each object, in order."""
        rows = self.page.locator("#objects li")
        return [int(rows.nth(row).get_attribute("data-pixels") or 0) for row in range(rows.count())]

    def image(self):
        return int(self.page.locator("body").get_attribute("data-image"))

    def text(self, of):
        return self.page.locator(of).inner_text()


@pytest.fixture
def person(browser, serve):
    address, labeling = serve(categories=["disc", "ring"])
    found = Person(browser, address)
    found.labeling = labeling
    found.address = address
    yield found
    found.page.close()
    assert not found.errors


def label_image(labeling, name):
    with Image.open(labeling.saved.folder / "masks" / f"{name}.png") as mask:
        return np.array(mask)


def test_clicks_and_boxes_make_masks_and_can_be_undone(person):
    person.click(20, 24)
    (first,) = person.pixels()
    assert first > 20
    person.click(48, 20, button="right")
    (second,) = person.pixels()
    person.press("z")
    assert person.pixels() == [first]
    person.press("y")
    assert person.pixels() == [second]
    person.press("z", "z")
    assert person.pixels() == []
    person.drag((40, 12), (56, 28))
    person.drag((8, 12), (32, 36))  # a second box is a second object
    assert len(person.pixels()) == 2
    assert min(person.pixels()) > 20


def test_a_box_beside_the_clicks_is_another_object_and_one_around_them_is_not(person):
    person.click(20, 24)
    person.drag((8, 12), (32, 36))
    assert len(person.pixels()) == 1
    person.press("n")
    person.click(20, 24)
    person.drag((40, 12), (56, 28))
    assert len(person.pixels()) == 3


def test_shift_and_the_right_button_say_what_is_beside_the_object(person):
    def told(how):
        person.click(20, 24)
        how()
        found = person.pixels()
        person.press("z", "z")
        return found

    def with_shift():
        person.page.keyboard.down("Shift")
        person.click(48, 20)
        person.page.keyboard.up("Shift")

    assert told(with_shift) == told(lambda: person.click(48, 20, button="right"))


def test_what_is_accepted_is_saved_and_the_next_image_comes(person):
    person.click(20, 24)
    person.press("n")
    person.click(48, 20)
    person.press("2")
    sizes = person.pixels()
    person.press("Enter")
    assert person.image() == 1
    assert person.text("#count") == "1 of 4 accepted"
    found = label_image(person.labeling, "0")
    assert len(np.unique(found)) == 3
    saved = person.labeling.saved.objects("0.png")
    assert [sum(one.lengths[1::2]) for one in saved] == sizes
    assert [(one.category, one.clicks) for one in saved] == [("disc", 1), ("ring", 1)]


def test_a_reloaded_page_and_a_second_window_show_what_was_accepted(person, browser):
    person.click(20, 24)
    sizes = person.pixels()
    person.page.click("#accept")
    person.idle()
    other = Person(browser, person.address)
    other.press("ArrowLeft")
    assert other.image() == 0
    assert other.pixels() == sizes
    other.page.close()


def test_two_people_at_once_have_each_their_own_objects(person, browser):
    other = Person(browser, person.address)
    person.click(20, 24)
    other.click(48, 20)
    mine = person.pixels()
    person.click(25, 28)
    other.press("z")
    assert other.pixels() == []
    person.press("z")
    assert person.pixels() == mine
    other.page.close()


def test_what_another_person_accepts_is_seen_when_the_image_is_opened_again(person, browser):
    assert person.pixels() == []
    other = Person(browser, person.address)
    other.click(20, 24)
    found = other.pixels()
    other.press("Enter")
    other.page.close()
    person.press("ArrowRight", "ArrowLeft")
    assert (person.image(), person.pixels()) == (0, found)


def test_clicks_are_still_there_when_an_image_is_opened_again(person):
    person.click(20, 24)
    found = person.pixels()
    person.press("ArrowRight", "ArrowLeft")
    assert (person.image(), person.pixels()) == (0, found)
    person.press("z")
    assert person.pixels() == []


def test_brush_and_eraser_are_the_last_word_on_pixels(person):
    person.press("b")
    person.drag((10, 40), (50, 40))
    (painted,) = person.pixels()
    assert 200 < painted < 500
    person.press("e")
    person.drag((30, 30), (30, 47))
    (left,) = person.pixels()
    assert left < painted
    person.press("Enter")
    found = label_image(person.labeling, "0")
    assert found[40, 12]
    assert not found[40, 30]
    assert (found > 0).sum() == left


def test_every_other_key_does_what_the_page_says(person):
    person.click(20, 24)
    person.press("n")
    person.click(48, 20)
    person.press("j")
    assert person.page.locator("#objects li").nth(0).get_attribute("aria-current") == "true"
    person.press("k", "Delete")
    assert len(person.pixels()) == 1
    person.press("]", "]", "[")
    assert person.text("#size-value") == "9"
    person.press("ArrowRight")
    assert person.image() == 1
    person.press("ArrowLeft")
    assert len(person.pixels()) == 1  # what is not accepted is still there
    person.press("h", "0", "c", "t", "j")
    person.page.fill("#category", "a cell")
    person.press("Enter")
    assert "a cell" in person.text("#objects")
    assert person.text("#count") == "0 of 4 accepted"  # that Enter was of the field


def test_an_image_that_does_not_decode_is_skipped_with_a_note(person):
    for _ in range(3):
        person.press("ArrowRight")
    assert person.image() == 0
    assert "skipped broken.png" in person.text("#notes")
    assert person.page.locator("#jump option", has_text="✗ broken.png").count() == 1


def test_an_image_without_objects_is_not_accepted(person):
    person.press("Enter")
    assert "no object yet" in person.text("#notes")
    assert len(person.labeling.saved) == 0


def test_tuning_shows_a_curve_and_then_both_models_answer_side_by_side(browser, serve):
    address, labeling = serve(steps=4)
    person = Person(browser, address)
    assert person.page.locator("#tune").is_disabled()
    for _ in range(2):
        person.click(20, 24)
        person.press("Enter")
    assert person.page.locator("#tuned").is_hidden()
    person.page.click("#tune")
    person.page.wait_for_selector("#tuned", timeout=400_000)
    person.page.wait_for_selector("#curve")
    assert "Tuned on 2 images. IoU on accepted images that did not train" in person.text("#tuning-text")
    person.click(20, 24, panel="tuned")
    assert person.text("#untuned .estimate").endswith("% sure")
    assert person.text("#tuned .estimate").endswith("% sure")
    is_no_better = "no better" in person.text("#tuning-text")
    assert person.page.locator("#untuned button", has_text="this mask is used").count() == is_no_better
    (of_used,) = person.pixels()
    person.press("t")
    (of_other,) = person.pixels()
    person.press("t", "Enter")
    assert [model for model, _, _ in labeling.saved.clicks()] == [0, 1]
    assert sum(labeling.saved.objects("2.png")[0].lengths[1::2]) == of_used
    assert of_used != of_other
    assert "after tuning 1" in person.text("#clicks")
    assert not person.errors
    person.page.close()


@pytest.mark.parametrize("width", [1280, 800])
def test_the_page_fits_its_window_with_both_panels(browser, serve, width):
    address, labeling = serve()
    labeling.models.take(labeling.models._untuned.predictor.model, 1)
    person = Person(browser, address, width)
    person.click(20, 24)
    assert person.page.evaluate("document.documentElement.scrollWidth") <= width
    boxes = [person.page.locator(f"#{panel} canvas").bounding_box() for panel in ("untuned", "tuned")]
    assert boxes[0]["y"] == boxes[1]["y"]
    assert boxes[0]["x"] + boxes[0]["width"] <= boxes[1]["x"]
    assert min(box["width"] for box in boxes) > 0.4 * (width - 300)
    for button in ("#accept", "#undo", "#tune"):
        assert person.page.locator(button).is_visible()
    person.page.close()


def test_a_server_that_is_gone_is_told(browser, serve):
    address, _ = serve()
    person = Person(browser, address)
    person.page.route("**/masks", lambda route: route.abort())
    person.page.mouse.click(*person.place(20, 24))
    person.page.wait_for_selector("#notes li")
    assert "sam-app does not answer. What was accepted is safe" in person.text("#notes")
    person.page.close()
