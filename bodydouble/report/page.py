"""The report's HTML, with every picture inside."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined


@dataclass(frozen=True)
class Picture:
    """A picture with its caption."""

    png: bytes
    """The picture."""
    caption: str
    """What it shows."""

    @property
    def source(self) -> str:
        """The picture as a data address."""
        return "data:image/png;base64," + base64.b64encode(self.png).decode()


@dataclass(frozen=True)
class Section:
    """A heading, a sentence and pictures in a row or a grid."""

    name: str
    """Short name, of its pictures' files too."""
    title: str
    """Heading."""
    text: str
    """What the reader sees here."""
    pictures: Sequence[Picture]
    """The pictures."""
    columns: int = 1
    """Pictures beside each other."""


def render_page(summary: Mapping[str, Any], sections: Sequence[Section], notes: Sequence[str]) -> str:
    """Return the page.

    Args:
        summary: Contents of summary.json: stages, gates, figures, machine, versions.
        sections: Pictures.
        notes: Sentences the reader must know.
    """
    environment = Environment(
        loader=PackageLoader("bodydouble.report"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    return environment.get_template("report.html.j2").render(summary=summary, sections=sections, notes=notes)
