"""Read the scores of every object and average them by patient (or whatever a group is)."""

import pyarrow.compute as pc
import pyarrow.parquet as pq

rows = pq.read_table("runs/polyps/rows.parquet")
points = rows.filter(pc.field("prompt") == "point")
by_group = points.group_by("group").aggregate([("untuned_iou", "mean"), ("tuned_iou", "mean")])
for row in by_group.to_pylist():
    print(f"{row['group']}: {row['untuned_iou_mean']:.3f} -> {row['tuned_iou_mean']:.3f}")
