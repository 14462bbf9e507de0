"""Pages of HTML that need no other file and no network."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from sam_train.files import write_text


def write_page(path: Path, template: Path, content: Mapping[str, Any]) -> None:
    """Fill in a template and write the page, whole or not at all.

    Args:
        path: Of the page.
        template: A Jinja template; it may extend ``page.html.j2``, which has the styles and a block called ``body``.
        content: What the template speaks of, by name; texts are never markup.
    """
    from jinja2 import Environment, FileSystemLoader

    folders = [template.parent, Path(__file__).parent]
    environment = Environment(loader=FileSystemLoader(folders), autoescape=True, trim_blocks=True, lstrip_blocks=True)
    write_text(path, environment.get_template(template.name).render(content))


def picture_uri(picture: Image.Image) -> str:
    """Return a picture as a data URI, which a page holds itself."""
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=85)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"
