"""A data source looked at before training: what is there, what is wrong, and what is worth a look."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Int
from rich.progress import Progress

from sam_train.curation.copies import Pair, num_repeated, same_content, same_look
from sam_train.curation.scan import Scan, scan_sources
from sam_train.curation.summary import Summary, summarize
from sam_train.curation.suspicions import Suspicion
from sam_train.data.sources.base import DataSource
from sam_train.data.sources.check import Findings
from sam_train.errors import Problem
from sam_train.preprocessing import Preprocessing


@dataclass(frozen=True)
class Check:
    """What was found.

    Attributes:
        scan: Rows of all images and objects.
        summary: The same in few numbers.
        findings: What is wrong; its problems would stop training.
        suspects: Of each rule that is broken, the rows of the objects that do, the most unusual first; of empty masks
            the rows of their images.
        copies: Images of two splits with the same pixels in files of another kind or with other metadata.
        alike: Images of two splits that look alike.
        num_repeated: How many images are repeated within their split.
        notes: What the source itself had to say.
    """

    scan: Scan
    summary: Summary
    findings: Findings
    suspects: Mapping[Suspicion, Int[np.ndarray, "n"]]
    copies: Sequence[Pair]
    alike: Sequence[Pair]
    num_repeated: int
    notes: Sequence[str]


def check_data(
    source: DataSource, preprocessing: Preprocessing, min_area: float, progress: Progress | None = None
) -> Check:
    """Read all images and masks of a data source once, and judge them.

    Args:
        source: The data.
        preprocessing: Of the model that is to be trained.
        min_area: Pixels in the model's input below which objects are left out.
        progress: Shows how far it is.

    Raises:
        InputError: If settings do not fit the data, so that no image can be looked at.
    """
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always", UserWarning)
        splits = source.splits()
    scan = scan_sources(splits, preprocessing, progress)
    same = same_content(scan, "identity")
    problems = (*scan.findings.problems, *_in_two_splits(scan, same))
    copies = sorted(set(same_content(scan, "pixels")) - set(same))
    suspects = {rule: rows for rule in Suspicion if len(rows := _suspects(scan, rule))}
    notes = [str(warning.message) for warning in told if issubclass(warning.category, UserWarning)]
    findings = replace(scan.findings, problems=problems)
    summary = summarize(scan, min_area)
    return Check(scan, summary, findings, suspects, copies, same_look(scan), num_repeated(scan), notes)


def _in_two_splits(scan: Scan, pairs: Sequence[Pair]) -> list[Problem]:
    names = list(scan.splits)
    problems = []
    for one, other in pairs:
        splits = [names[scan.images["split"][row]] for row in (one, other)]
        found = f"a {splits[0]} image that is the {splits[1]} image {scan.name(other)}, too, by its content"
        remedy = "leave each in one split, or scores tell nothing"
        problems.append(Problem("image in two splits", Path(scan.name(one)), found, remedy))
    return problems


def _suspects(scan: Scan, rule: Suspicion) -> Int[np.ndarray, "n"]:
    if rule == Suspicion.EMPTY:
        return np.flatnonzero(scan.images["empty"])
    rows = np.flatnonzero(scan.objects["suspicion"] & rule)
    areas = scan.objects["input_area"][rows].astype(np.int64)
    return rows[(areas if rule == Suspicion.TINY else -areas).argsort(kind="stable")]
