"""What every report page has in common: one HTML file that needs no other."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

_STYLE = """
body{font:15px/1.45 system-ui,sans-serif;max-width:1180px;margin:2em auto;padding:0 1em;
  color:#1b1f24}
h1{margin-bottom:.1em} .sub{color:#57606a;margin-top:0} img{max-width:100%}
table{border-collapse:collapse;margin:.6em 0 1.4em}
td,th{padding:.25em .8em;border-bottom:1px solid #d0d7de;text-align:left;vertical-align:top}
td.n{text-align:right;font-variant-numeric:tabular-nums}
figure{margin:0} figure img{width:100%;border-radius:6px} figcaption{color:#57606a}
"""


def write_page(path: Path, title: str, body: Iterable[str], style: str = "") -> None:
    """Write the page, its heading `title`; body: HTML, in order; style: CSS beside the common."""
    path.parent.mkdir(parents=True, exist_ok=True)
    words = html.escape(title)
    path.write_text(
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{words}</title>"
        f"<style>{_STYLE}{style}</style><body><h1>{words}</h1>{''.join(body)}</body></html>\n",
        encoding="utf-8",
    )


def table(rows: Iterable[Sequence[object]], head: Sequence[str] = ()) -> str:
    """Rows of anything that has a text; numbers stand on the right."""
    top = "<tr>" + "".join(f"<th>{html.escape(name)}</th>" for name in head) + "</tr>"
    lines = "".join("<tr>" + "".join(map(_cell, row)) + "</tr>" for row in rows)
    return f"<table>{top if head else ''}{lines}</table>"


def _cell(value: object) -> str:
    text = str(value)
    kind = " class=n" if text.replace(".", "", 1).isdigit() else ""
    return f"<td{kind}>{html.escape(text)}</td>"


def image(data: bytes, alt: str, kind: str = "jpeg") -> str:
    """A picture inside the page; kind: jpeg or png."""
    source = base64.b64encode(data).decode()
    return f'<img alt="{html.escape(alt)}" src="data:image/{kind};base64,{source}">'


def png(figure: Any) -> bytes:
    """A matplotlib figure."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()
