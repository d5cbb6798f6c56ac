"""The command `plot`: the cells of a genotype as a picture."""

from pathlib import Path

from nasnet_keras.commands.terminal import finish
from nasnet_keras.files import check_file
from nasnet_keras.genotype import load_genotype
from nasnet_keras.pictures.cells import genotype_svg

SUMMARY = "draw the cells of a genotype as SVG"
EXAMPLE = "plot nasnet_a --output cells.svg"


def add_options(parser):
    """Add the options."""
    parser.add_argument("genotype", metavar="GENOTYPE", help="a stored name (see `list`) or a JSON file")
    parser.add_argument("--output", help="the SVG file (default: <name>.svg)")


def check(options):
    """The genotype, and where its picture goes."""
    genotype = load_genotype(options.genotype)
    output = Path(options.output or f"{genotype.name or Path(options.genotype).stem}.svg")
    check_file("output", output, ".svg")
    return {"genotype": genotype, "output": output}


def run(options, genotype, output):
    """Write both cells of a genotype as one SVG."""
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(genotype_svg(genotype), encoding="utf-8")
    print(output)
    finish(options, {"output": str(output), "digest": genotype.digest})
