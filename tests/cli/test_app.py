"""``sam-app``: mistakes are told before a model is loaded, and the server as a person starts and ends it."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
from urllib.request import Request, urlopen

import pytest

from tests.app.conftest import write_photos
from tests.cli.test_first_mistakes import told


@pytest.fixture
def photos(tmp_path):
    return write_photos(tmp_path / "photos")


def test_a_port_in_use_is_told_at_once(photos):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        number = taken.getsockname()[1]
        message = told("app", f"images={photos}", f"port={number}")
    assert f"port={number}: cannot be taken at host=127.0.0.1" in message
    assert "imported" not in message


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ([], "images=: give a folder of images, or a data source"),
        (["images={photos}/0.png"], "0.png: not a folder; name the folder that holds the images"),
        (["images={photos}", "output={photos}/labels"], "lies in the other, where labels would be taken for images"),
        (
            [
                "data=mixture",
                *(f"data.parts.a.{one}" for one in ("kind=folder", "root={photos}")),
                "output={photos}/labels",
            ],
            "lies in the other, where labels would be taken for images",
        ),
        (["data=toy"], "output=: name a folder for the labels"),
        (["data=mixture", "data.parts.a.kind=folder", "data.parts.a.root={photos}"], "output=: name a folder"),
        (["images={photos}", "output=/proc/labels"], "output=/proc/labels: cannot be written"),
        (["data=folder", "data.root={photos}", "window=lung"], "window=: is of images=; a data source has its own"),
        (["images={photos}", "port=70000"], "port=70000: expected a whole number from 0 to 65535"),
        (["images={photos}", "steps=0"], "steps=0: expected a whole number, at least 1"),
    ],
)
def test_a_mistake_is_told_at_once(photos, settings, expected):
    message = told("app", *(setting.format(photos=photos) for setting in settings))
    assert expected in message.replace("\n", " ")
    assert "imported" not in message


def test_a_part_of_a_mixture_that_is_none_is_told(tmp_path):
    message = told("app", "data=mixture", "data.parts.a=null", f"output={tmp_path}/labels")
    assert "data.parts.a=None: expected a kind and settings, such as" in message


def test_a_killed_server_loses_nothing_that_was_accepted_and_ctrl_c_ends_one(photos, tmp_path):
    command = [sys.executable, "-m", "sam_train.cli.app", f"images={photos}", "port=0", "image_size=64", "device=cpu"]

    def started():
        server = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True, env=os.environ)
        assert server.stdout is not None
        lines = []
        while not (found := re.search(r"http://127\.0\.0\.1:\d+/[\w-]{20,}/", "".join(lines))):
            line = server.stdout.readline()
            assert line, lines
            lines.append(line)
        return server, found[0], lines

    server, address, _ = started()
    body = json.dumps({"objects": [{"lengths": [100, 900, 48 * 64 - 1000], "category": "cell"}]}).encode()
    headers = {"Content-Type": "application/json"}
    with urlopen(Request(f"{address}api/images/0/objects", body, headers, method="PUT"), timeout=60) as answer:
        assert json.load(answer)["saved"]
    server.kill()
    server.communicate()
    server, address, lines = started()
    assert any("1 accepted in" in line for line in lines)
    with urlopen(f"{address}api/images/0/objects", timeout=60) as answer:
        assert json.load(answer)["objects"][0]["category"] == "cell"
    server.send_signal(signal.SIGINT)
    server.communicate(timeout=60)
    assert server.returncode == 0
