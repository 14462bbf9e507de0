"""A check as one page to keep or to mail, with pictures of what is worth a look."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from sam_train.curation import CHECK
from sam_train.curation.check import Check
from sam_train.curation.looks import DISTANCE
from sam_train.curation.pictures import MOST, draw_pairs, draw_suspects
from sam_train.curation.suspicions import RULES
from sam_train.curation.tables import columns, sides, small
from sam_train.pages import write_page


def write_check(path: Path, check: Check, facts: Mapping[str, str]) -> None:
    """Write the page, whole or not at all.

    Args:
        path: Of the page.
        check: What was found.
        facts: Data and settings by name.
    """
    splits = check.summary.splits
    suspects = [
        (*RULES[rule], len(rows), draw_suspects(check.scan, rule, rows.tolist()))
        for rule, rows in check.suspects.items()
    ]
    classes = list(sides(check))
    content = {
        "title": f"{sum(one.images for one in splits.values()):,} images of {facts['data']}",
        "generator": CHECK,
        "facts": facts,
        "check": check,
        "splits": {name: (one, columns(one.counts)) for name, one in splits.items()},
        "categories": {name: (each, columns(of)) for name, (each, of) in check.summary.categories.items() if name},
        "sides": classes,
        "small": small(check),
        "most": MOST,
        "distance": DISTANCE,
        "largest": max((number for _, number in classes), default=0) or 1,
        "problems": check.findings.by_kind(),
        "suspects": suspects,
        "copies": draw_pairs(check.scan, check.copies),
        "alike": draw_pairs(check.scan, check.alike),
    }
    write_page(path, Path(__file__).with_name("check.html.j2"), content)
