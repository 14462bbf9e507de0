"""How much of the machine is this process's."""

import psutil
import pytest

from sam_train.machine import _limits_of_groups, memory_bytes


@pytest.mark.parametrize(
    ("entry", "below", "limit"),
    [("0::/user/session", "", "memory.max"), ("7:memory:/user/session", "memory", "memory.limit_in_bytes")],
)
def test_the_limits_of_all_groups_count(entry, below, limit, tmp_path):
    (tmp_path / "cgroup").write_text(f"3:cpu:/elsewhere\n{entry}\n")
    for folder, most in (("user", "1000"), ("user/session", "900"), ("user/other", "1")):
        (tmp_path / below / folder).mkdir(parents=True)
        (tmp_path / below / folder / limit).write_text(f"{most}\n")
    assert sorted(_limits_of_groups(tmp_path, tmp_path / "cgroup")) == [900, 1000]
    (tmp_path / below / "user" / limit).write_text("max\n")
    assert list(_limits_of_groups(tmp_path, tmp_path / "cgroup")) == [900]


def test_there_is_no_more_than_the_machine_has():
    assert 1e8 < memory_bytes() <= psutil.virtual_memory().total
