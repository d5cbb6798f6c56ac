"""Pages of the site that are made from what lies elsewhere in the repository; a hook of MkDocs, see mkdocs.yml."""

import re
import sys
from pathlib import Path

from mkdocs.structure.files import File

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

import nasnet_keras  # noqa: E402
from nasnet_keras.pictures.cells import genotype_svg  # noqa: E402

PAGES = {"README.md": "index.md", "RESULTS.md": "results.md", "CHANGELOG.md": "changelog.md"}
PAGES |= {"benchmarks/README.md": "benchmarks.md", "deploy/README.md": "deploy.md"}
# The reference by what a reader is after: the first folder of the module that a name lives in.
GROUPS = {
    "genotype": "Genotypes",
    "models": "Networks",
    "weights": "Weights",
    "data": "Data",
    "training": "Training",
    "export": "Export",
    "pictures": "Pictures",
    "search": "Search",
    "children": "Search",
}


def names():
    """{group: [(public name, where it is defined)]}."""
    found = {}
    for name in nasnet_keras.__all__:
        home = nasnet_keras._HOMES.get(name, "search.tuner")
        found.setdefault(GROUPS[home.split(".")[0]], []).append((name, f"nasnet_keras.{home}.{name}"))
    return {group: found[group] for group in dict.fromkeys(GROUPS.values())}


def notebooks():
    """The notebooks' paths."""
    return sorted((ROOT / "notebooks").glob("*.ipynb"))


def on_config(config):
    """Put notebooks and reference into the menu, behind the guides."""
    titles = {path: path.stem[3:].replace("_", " ").capitalize() for path in notebooks()}
    shown = [{title: f"notebooks/{path.name}"} for path, title in titles.items()]
    reference = [{group: [{name: f"reference/{name}.md"} for name, _ in found]} for group, found in names().items()]
    config.nav[2:2] = [{"Notebooks": shown}, {"Reference": ["reference/index.md", *reference]}]
    return config


def on_files(files, config):
    """Add the pages."""

    def add(path, **source):
        files.append(File.generated(config, path, **source))

    for source, page in PAGES.items():
        add(page, content=(ROOT / source).read_text("utf-8"))
    for path in notebooks():
        add(f"notebooks/{path.name}", abs_src_path=str(path))
    lines = ["# Reference", "Everything that `from nasnet_keras import …` gives."]
    for group, found in names().items():
        lines += [f"## {group}", *(f"- [`{name}`]({name}.md)" for name, _ in found)]
        for name, place in found:
            add(f"reference/{name}.md", content=f"::: {place}\n    options: {{heading_level: 1}}\n")
    add("reference/index.md", content="\n\n".join(lines).replace("\n\n- ", "\n- ").replace("\n- ", "\n\n- ", 1))
    lines = ["# Cells", "The stored genotypes, by name, as `nasnet-keras plot NAME` draws them."]
    for name in nasnet_keras.list_genotypes():
        genotype = nasnet_keras.load_genotype(name)
        add(f"cells/{name}.svg", content=genotype_svg(genotype))
        lines += [
            f"## {name}",
            f"{genotype.source}.",
            f"![The Normal and the Reduction cell of {name}](cells/{name}.svg)",
        ]
    add("cells.md", content="\n\n".join(lines))
    return files


def on_page_markdown(markdown, page, config, files):
    """Turn links between the repository's files into those of the site."""

    def linked(found):
        target = found[1].removeprefix("../")
        return f"]({PAGES.get(target, target.removeprefix('docs/'))})"

    inner = page.file.src_uri.startswith(("reference/", "cells"))
    return markdown if inner else re.sub(r"\]\(((?!https?:|#)[^)\s]+)\)", linked, markdown)
