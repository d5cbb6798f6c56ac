"""The command `plot`: the cells of a genotype as a picture."""

from pathlib import Path

from nasnet_keras.commands.terminal import finish
from nasnet_keras.files import check_file, expanded, write_atomically
from nasnet_keras.genotype import load_genotype
from nasnet_keras.pictures.cells import genotype_svg

SUMMARY = "draw the cells of a genotype as SVG"
EXAMPLE = "plot nasnet_a --output cells.svg"
LONGEST_NAME = 200  # bytes; file systems take 255


def add_options(parser):
    """Add the options."""
    parser.add_argument("genotype", metavar="GENOTYPE", help="a stored name (see `list`) or a JSON file")
    parser.add_argument("--output", help="the SVG file (default: <name>.svg)")


def check(options):
    """The genotype, and where its picture goes."""
    genotype = load_genotype(options.genotype)
    name = genotype.name if _is_file_name(genotype.name) else Path(options.genotype).stem
    output = Path(expanded(options.output) if options.output else f"{name}.svg")
    check_file("output", output, ".svg")
    return {"genotype": genotype, "output": output}


def _is_file_name(name):
    """Whether a genotype's name, which a stranger may have written, names a visible file in this folder."""
    plain = name.isprintable() and not name.startswith(".") and name == Path(name).name
    return bool(name) and plain and "\\" not in name and len(name.encode()) <= LONGEST_NAME


def run(options, genotype, output):
    """Write both cells of a genotype as one SVG."""
    output.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(output, genotype_svg(genotype).encode())
    print(output)
    finish(options, {"output": str(output), "digest": genotype.digest})
