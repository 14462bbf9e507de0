"""Files that are there whole or not at all."""

import stat

import pytest

from sam_train.files import write_json, written_whole


def test_a_file_appears_when_it_is_whole_with_the_permissions_of_any_other(tmp_path):
    path = tmp_path / "new" / "report.json"
    with written_whole(path) as temporary:
        temporary.write_text("content")
        temporary.chmod(0o600)
        assert not path.exists()
        assert temporary.suffix == ".json"
    assert path.read_text() == "content"
    (tmp_path / "plain").touch()
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE((tmp_path / "plain").stat().st_mode)
    assert [file.name for file in path.parent.iterdir()] == ["report.json"]


def test_a_write_that_fails_leaves_what_was_there_and_no_litter(tmp_path):
    path = tmp_path / "report.json"
    write_json(path, {"old": 1})
    with pytest.raises(OSError, match="disk"), written_whole(path, durable=True) as temporary:  # noqa: PT012
        temporary.write_text("half")
        raise OSError("disk full")
    assert path.read_text() == '{\n  "old": 1\n}\n'
    assert list(tmp_path.iterdir()) == [path]
