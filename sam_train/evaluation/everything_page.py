"""``everything.html``: what is found without a prompt, and what it takes, in one file to mail."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

from sam_train.files import write_text

_HEAD = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>{title}</title>
<style>
body {{ margin: 0 auto; max-width: 1000px; padding: 1rem; color: #1f2328; background: #fff;
       font: 16px/1.5 system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; }}
h1 {{ font-size: 1.4rem; }} p {{ color: #59636e; }} div {{ overflow-x: auto; }}
table {{ border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }}
th, td {{ text-align: right; padding: .3rem .5rem; border-bottom: 1px solid #d8dee4; white-space: nowrap; }}
th:first-child, td:first-child {{ text-align: left; }}
</style>
</head>
"""
_ROWS = {
    "untuned": "grid of clicks, untuned model",
    "tuned": "grid of clicks, tuned model",
    "head": "head of the run, tuned model",
}
_MEANING = (
    "AR and AP are COCO's average recall and precision of masks, 0 to 1, whatever objects are called; AP by name "
    "counts a mask only with its name. Decodes are the objects that the decoder was asked for in an image, seconds "
    "those of the whole search in it."
)


def write_everything_page(
    path: Path, title: str, columns: Sequence[str], scores: Mapping[str, Mapping[str, float | None]]
) -> None:
    """Write a table of each way to find objects as one file that needs no other, whole or not at all."""
    rows = [
        f"<tr><td>{escape(_ROWS.get(name, name))}</td>{''.join(_cell(column, values) for column in columns)}</tr>"
        for name, values in scores.items()
    ]
    heads = "".join(f"<th>{escape(column)}</th>" for column in ("", *columns))
    table = f"<div><table><thead><tr>{heads}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    body = f"<body><h1>{escape(title)}</h1>{table}<p>{_MEANING}</p></body>\n</html>\n"
    write_text(path, _HEAD.format(title=escape(title)) + body)


def _cell(column: str, values: Mapping[str, float | None]) -> str:
    value = values.get(column)
    return f"<td>{'-' if value is None else f'{value:.0f}' if column == 'decodes' else f'{value:.3f}'}</td>"
