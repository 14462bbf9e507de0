"""The check before training: everything wrong, once, at once."""

from collections import Counter
from pathlib import Path

import pytest

from sam_train.data.sources import check
from sam_train.data.sources.base import ImageSet
from sam_train.data.sources.check import LINES_PER_KIND, check_sources
from sam_train.data.sources.doubts import Answer, Doubt, Notice
from sam_train.errors import InputError, Problem


class Faulty(ImageSet):
    """A source whose images have the problems it is told."""

    def __init__(self, *problems: list[Problem]) -> None:
        self.ids = self.groups = [str(number) for number in range(len(problems))]
        self.found = problems
        self.asked = Counter()

    def read(self, index, choose=None, with_image=True):
        raise AssertionError("the check asks for problems")

    def fingerprint(self, index):
        raise AssertionError("the check asks for problems")

    def problems(self, index):
        self.asked[index] += 1
        return self.found[index]


def torn(number: int) -> Problem:
    return Problem("torn", Path(f"{number:03}.png"), "has a hole", "glue it")


def report_of(**sources: ImageSet) -> list[str]:
    with pytest.raises(InputError) as error:
        check_sources(sources)
    return str(error.value).splitlines()


def test_problems_of_all_splits_are_told_by_kind_with_one_remedy():
    odd = Problem("odd", Path("x.png"), "holds 3", "make it even")
    lines = report_of(train=Faulty([torn(2)], [], [odd, torn(1)]), val=Faulty([torn(3)]), test=Faulty([torn(3)]))
    assert "the data has 4 problem(s):" in lines
    assert lines.index("torn (3): glue it") + 1 == lines.index("  001.png: has a hole")
    assert lines.count("odd (1): make it even") == lines.count("  x.png: holds 3") == 1


def test_a_kind_is_cut_short_but_counted_in_full():
    lines = report_of(train=Faulty(*([torn(number)] for number in range(LINES_PER_KIND + 7))))
    assert f"torn ({LINES_PER_KIND + 7}): glue it" in lines
    assert sum("has a hole" in line for line in lines) == LINES_PER_KIND
    assert lines[-1] == "  ... and 7 more"


def asked(number: int, question=Doubt, holds=True) -> Answer:
    return question("odd", Path(f"{number:03}.png"), "holds 3", "make it even", holds)


@pytest.mark.parametrize(("yes", "no", "told"), [(3, 3, True), (3, 4, False), (1, 0, True), (0, 5, False)])
def test_a_doubt_is_told_if_at_least_half_of_the_answers_are_yes(yes, no, told):
    answers = [[asked(number, holds=number < yes)] for number in range(yes + no)]
    source = Faulty(*answers, *[[]] * 10)  # ten have nothing to say
    if told:
        lines = report_of(train=source)
        assert f"odd ({yes} of {yes + no}): make it even" in lines
        assert sum("holds 3" in line for line in lines) == yes
    else:
        check_sources({"train": source})


def test_a_doubt_that_does_not_apply_is_not_told_beside_other_problems():
    lines = report_of(train=Faulty([asked(0)], [asked(1, holds=False)], [asked(2, holds=False)], [torn(3)]))
    assert lines[0] == "the data has 1 problem(s):"


def test_a_notice_stops_nothing():
    answers = [[asked(number, Notice, number > 2)] for number in range(5)]
    with pytest.warns(UserWarning, match=r"odd \(2 of 5\): make it even; such as 003.png: holds 3"):
        check_sources({"train": Faulty(*answers)})


def test_a_split_that_serves_twice_is_read_once():
    source = Faulty(*[[]] * 50, [torn(0)])
    assert "torn (1): glue it" in report_of(val=source, test=source)
    assert source.asked == Counter(range(51))


def test_a_problem_of_two_splits_is_told_once():
    assert "torn (1): glue it" in report_of(val=Faulty([torn(0)]), test=Faulty([torn(0)]))


def test_good_and_absent_data_pass():
    check_sources({"train": Faulty(*[[]] * 30), "val": Faulty()})
    check_sources({})


def test_an_error_of_our_own_is_not_swallowed():
    class Broken(Faulty):
        def problems(self, index):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        check_sources({"train": Broken(*[[]] * 100)})


@pytest.mark.parametrize(("terminal", "patience", "shown"), [("1", 0.0, True), ("1", 1e9, False), ("0", 0.0, False)])
def test_a_bar_shows_on_a_terminal_if_it_takes_long(monkeypatch, capsys, terminal, patience, shown):
    monkeypatch.setenv("TTY_COMPATIBLE", terminal)
    monkeypatch.setattr(check, "PATIENCE_S", patience)
    check_sources({"train": Faulty(*[[]] * 30)})
    captured = capsys.readouterr()
    assert ("checking images and masks" in captured.err) == shown
    assert not captured.out
