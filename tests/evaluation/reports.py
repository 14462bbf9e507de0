"""Rows and reports as an evaluation makes them, without a model."""

import numpy as np
import pyarrow as pa

from sam_train.evaluation.report import Report
from sam_train.evaluation.summary import summarize
from sam_train.metrics import DICE, IOU
from sam_train.metrics.rle import encode_mask
from sam_train.prompts.protocols import find_protocols

METRICS = (DICE, IOU)
PROTOCOLS = find_protocols(["box", "box_10", "point", "clicks"], clicks=20)
TITLES = {name: protocol.title for name, protocol in PROTOCOLS.items()}


def make_rows(num_groups: int = 6, gain: float = 0.05) -> pa.Table:
    """Two images a group, three objects an image; the tuned model is better by about ``gain``."""
    rng = np.random.default_rng(0)
    rows = []
    for image in range(2 * num_groups):
        for value in (1, 2, 3):
            mask = np.zeros((64, 64), bool)
            mask[4 : 14 * value, 10:30] = True
            runs = encode_mask(mask)["counts"]
            for prompt in PROTOCOLS:
                untuned = rng.uniform(0.3, 0.85)
                tuned = untuned + gain + 0.005 * (-1) ** image * value
                row = {"image": f"image {image:02}", "object": value, "prompt": prompt, "group": f"case {image // 2}"}
                row |= {"category": ("left", "right")[value % 2], "area": int(mask.sum()), "height": 64, "width": 64}
                for model, iou in {"untuned": untuned, "tuned": tuned}.items():
                    row |= {f"{model}_iou": iou, f"{model}_dice": 2 * iou / (1 + iou), f"{model}_predicted_iou": 0.8}
                    row |= {f"{model}_rle": runs if prompt == "box" else None}
                    row[f"{model}_iou_by_click"] = np.linspace(0.3, iou, 20).tolist() if prompt == "clicks" else None
                rows.append(row | {"true_rle": runs if prompt == "box" else None})
    return pa.Table.from_pylist(rows)


def make_report(rows: pa.Table) -> Report:
    counts = {"num_images": 12, "num_too_small": 1}
    return summarize(rows, METRICS, TITLES, counts, "test", "iou_box")
