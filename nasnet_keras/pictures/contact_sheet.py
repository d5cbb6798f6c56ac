"""Many small photographs on one page, in groups: what a data set looks like."""

import base64

from nasnet_keras.pictures.cells import escape
from nasnet_keras.pictures.report import STYLE

SHEET_STYLE = """
.sheet{display:grid;grid-template-columns:repeat(auto-fill,112px 112px);gap:10px;margin:0;padding:0;list-style:none}
.sheet li{font-size:.75rem;color:var(--muted);overflow-wrap:anywhere;line-height:1.3}
.sheet img{display:block;width:112px;height:112px;object-fit:cover;border-radius:6px;background:var(--line)}
.lines{margin:0;padding-left:1.2em;overflow-wrap:anywhere}
"""


def contact_sheet(title, figures, groups, lines=()):
    """Photographs in groups, as one HTML document that needs nothing else: no network, no script.

    Args:
        title: plain text.
        figures: {label: text}, shown large at the top.
        groups: a list of `(heading, note, images)`; `images` is a list of `(caption, JPEG file as bytes)`.
        lines: texts below the figures, such as what is left out and why.

    Returns:
        The document, a string. Everything given is escaped.
    """
    parts = ["<dl class=figures>"]
    parts += [f"<div><dt>{escape(label)}</dt><dd>{escape(text)}</dd></div>" for label, text in figures.items()]
    parts.append("</dl>")
    if lines:
        parts += ["<h2>What to know</h2><ul class=lines>", *(f"<li>{escape(line)}</li>" for line in lines), "</ul>"]
    for heading, note, images in groups:
        parts.append(f"<section><h2>{escape(heading)}</h2>")
        parts += [f"<p class=note>{escape(note)}</p>"] if note else []
        parts.append("<ul class=sheet>")
        for caption, content in images:
            source = f"data:image/jpeg;base64,{base64.b64encode(content).decode()}"
            parts.append(f'<li><img loading=lazy alt="{escape(caption)}" src="{source}">{escape(caption)}</li>')
        parts.append("</ul></section>")
    return (
        f'<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content="width=device-width">'
        f"<title>{escape(title)}</title><style>{STYLE}{SHEET_STYLE}</style><main><h1>{escape(title)}</h1>"
        f"{''.join(parts)}</main></html>\n"
    )
