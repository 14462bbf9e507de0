"""What building the documentation does beside rendering pages: the table of settings, and a law on other hosts.

Called by ``mkdocs build`` (``hooks`` in mkdocs.yml).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import escape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from mkdocs.exceptions import PluginError

from sam_train.cli.help import help_text
from sam_train.cli.overrides import choices

SETTINGS = "<!-- settings -->"
_SETTING = re.compile(r"^  ([\w.]+)=(\[.*?\]|\S*) *(.*)$")
_LOADING = {"script": "src", "img": "src", "iframe": "src", "source": "src", "link": "href"}


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Put the tables of all settings in place of the comment that asks for them."""
    return markdown.replace(SETTINGS, "\n".join(_settings())) if SETTINGS in markdown else markdown


def on_page_content(html: str, **_: Any) -> str:
    """Keep a mean and its deviation on one line of a table."""
    return html.replace(" ± ", "&nbsp;±&nbsp;")


def on_post_build(config: Any, **_: Any) -> None:
    """Refuse pages that load anything from another host.

    Raises:
        PluginError: If one does; names page and address.
    """
    site = Path(config["site_dir"])
    found = [f"{page.relative_to(site)}: {address}" for page in site.rglob("*.html") for address in _loaded(page)]
    styles = [file for file in site.rglob("*.css") if re.search(r"(url\(|@import )[\"']?https?:", file.read_text())]
    if found or styles:
        raise PluginError(f"the pages load from other hosts: {[*found, *map(str, styles)]}")


class _Loaded(HTMLParser):
    """Collects what a browser fetches for a page."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note an address of another host."""
        values = dict(attrs)
        address = values.get(_LOADING.get(tag, "")) or ""
        if urlsplit(address).netloc and values.get("rel") != "canonical":
            self.addresses.append(address)


def _loaded(page: Path) -> list[str]:
    parser = _Loaded()
    parser.feed(page.read_text(encoding="utf-8"))
    return parser.addresses


def _settings() -> Iterator[str]:
    """Markdown of all settings of all commands, in the words of ``--help``."""
    own = [choice for choice in choices() if not choice.startswith(("model=", "experiment="))]
    for command, title, names in (
        ("train", "`sam-train`, `train.py`", ["", "model=sam2_nano", *own]),
        ("evaluate", "`sam-evaluate`", [""]),
        ("export", "`sam-export`", [""]),
        ("predict", "`sam-predict`", [""]),
        ("app", "`sam-app`", [""]),
        ("check", "`sam-data check`", [""]),
        ("preview", "`sam-data preview`", [""]),
        ("convert", "`sam-data convert`", [""]),
    ):
        yield f"\n## {title}\n"
        for name in names:
            yield from _section(command, name)


def _section(command: str, choice: str) -> Iterator[str]:
    """One choice's summary and settings; without a choice, the settings of the command itself."""
    shown, summary = False, ""
    rows: list[str] = []
    for line in help_text(command, [choice] if choice else []).splitlines():
        if line and not line.startswith(" "):
            head, _, words = line.partition(": ")
            shown = head == choice if choice else line.startswith("Settings")
            summary = words if shown and choice else summary
        elif shown and (match := _SETTING.match(line)):
            key, value, meaning = match.groups()
            rows.append(f"| `{key}` | `{value}` | {escape(meaning, quote=False)} |")
    if choice:
        yield f"\n### `{choice}`\n\n{summary}\n"
    if rows:
        yield from ("", "| setting | default | meaning |", "|---|---|---|", *rows)
