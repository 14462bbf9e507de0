"""Scores of a run by kinds of prompt of one's own."""

from sam_train.runs.evaluate import evaluate
from sam_train.runs.run import Run
from sam_train.runs.settings import Evaluation

asked = Evaluation(protocols=("box", "box_10", "clicks"), metrics=("iou", "nsd"), clicks=20)
report = evaluate(Run.load("runs/polyps"), evaluation=asked, folder="reports/polyps")
print(report.tuned["box"]["iou"], report.interval("box", "iou"))  # the change's 95% interval
