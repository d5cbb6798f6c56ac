"""The command `data`: what the package sees in a data set, before anything is trained."""

import io
import os
from dataclasses import replace
from pathlib import Path

from nasnet_keras.commands.options import DATA_HELP, add_division, given_columns, given_grey_range
from nasnet_keras.commands.progress import decoding
from nasnet_keras.commands.terminal import finish, print_table, tell, without_greetings
from nasnet_keras.data.image_files import ImageFiles
from nasnet_keras.data.images import read_image
from nasnet_keras.data.left_out import few, shown
from nasnet_keras.data.loading import check_strict, keep_findings, open_data
from nasnet_keras.data.sides import PARTS
from nasnet_keras.data.survey import near_places, survey
from nasnet_keras.files import check_file

SUMMARY = "show what is seen in a data set: classes, parts, sizes, what is left out, a contact sheet"
EXAMPLE = "data photos --check --near"
SHOWN, NAMES = 40, 5  # classes in the table and on the sheet; names of each reason
THUMBNAIL, EACH = 112, 8  # pixels of a side; images of a class


def add_options(parser):
    """Add the options."""
    parser.add_argument("data", metavar="DATA", help=DATA_HELP)
    add_division(parser, seed="of the division, of data that are no folder")
    parser.add_argument("--check", action="store_true", help="decode all images, to find broken ones")
    parser.add_argument("--near", action="store_true", help="find images in different parts that look the same")
    parser.add_argument(
        "--output", help="the contact sheet, an HTML file (default: here, or beside the data's folder, by its name)"
    )


def check(options):
    """The data, not decoded, and where the contact sheet goes."""
    output = Path(options.output).expanduser() if options.output else _usual_output(options.data)
    if options.output:
        check_file("output", output, ".html")
    with without_greetings():
        data = open_data(
            options.data,
            validation=options.validation,
            test=options.test,
            seed=options.seed,
            strict=options.strict,
            grey_range=given_grey_range(options),
            columns=given_columns(options),
        )
    for name in ("check", "near"):
        if getattr(options, name) and not isinstance(data.train.images, ImageFiles):
            tell(f"--{name} is not used: it is for files, and {shown(data.name)} has none")
    return {"data": data, "output": output}


def _usual_output(data):
    """Where the contact sheet goes: into the current folder, or beside that of the data: in it, it would be foreign."""
    name = data.removeprefix("tfds:").replace("/", "-") if data.startswith("tfds:") else data
    output = Path(f"{shown(os.path.basename(os.path.abspath(name))) or 'data'}-sheet.html")
    if data == "digits" or not os.path.isdir(data):
        return output
    folder = Path(data).resolve()
    if not Path.cwd().resolve().is_relative_to(folder):
        return output
    if folder == folder.parent or not os.access(folder.parent, os.W_OK):
        rule = "a file outside of the data, as the folder around them cannot be written to"
        raise ValueError(f"`output` must be {rule}. Received: none, and {shown(os.fspath(folder))}")
    return folder.parent / output


def run(options, data, output):
    """Print what is seen, and draw the contact sheet."""
    is_files = isinstance(data.train.images, ImageFiles)
    with decoding() as progress:
        if options.check and is_files:
            try:
                for part in PARTS:
                    getattr(data, part).images.check(progress)
            finally:  # also of what was looked at before Ctrl-C
                keep_findings(data.train)
            data = replace(data, left_out=data.all_left_out())
            check_strict(options.strict, data.name, data.left_out)
        found = survey(data, progress)
        pairs, passed_over = near_places(data, progress) if options.near and is_files else (None, 0)
    lines = _lines(found, pairs, passed_over)
    _print(found, lines, data, pairs)
    groups = _groups(data, pairs)
    if pairs is not None:
        found["near"] = [[f"{part}: {_name(data, part, index)}" for part, index in pair] for pair in pairs]
        found["not_compared"] = passed_over
    with without_greetings():
        from nasnet_keras.pictures.contact_sheet import contact_sheet
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(contact_sheet(f"What is in {shown(data.name)}", _figures(found), groups, lines), "utf-8")
        print(f"contact sheet: {output}")
    except OSError as error:
        tell(f"no contact sheet: cannot write {output} ({error.strerror})")
    finish(options, {**found, "output": str(output)})


def _figures(found):
    """{label: text} of the numbers that come first."""
    figures = {"classes": f"{len(found['classes']):,}"}
    figures |= {part: f"{count:,}" for part, count in found["images"].items()}
    if found["bytes"] is not None:
        figures["megabytes"] = f"{found['bytes'] / 1e6:,.1f}"
    return figures


def _lines(found, pairs, passed_over):
    """What there is to say, a line each."""
    lines = []
    if sizes := found["sizes"]:
        least, median, most = (f"{sizes[name][0]}×{sizes[name][1]}" for name in ("least", "median", "most"))
        varied = f"{least} to {most}, median {median}, {sizes['different']:,} different ones"
        lines.append(f"sizes (height×width): {least if sizes['different'] == 1 else varied}")
    if found["kinds"]:
        lines.append("files: " + ", ".join(f"{count:,} {kind}" for kind, count in found["kinds"].items()))
    lines += found["notes"]
    for reason, names in found["left_out"].items():
        lines.append(f"not used: {len(names):,} × {reason}: {few(names)}")
    if pairs is not None:
        lines.append(f"pairs in different parts that look the same: {len(pairs):,}")
    if passed_over:
        lines.append(f"images that were not compared, as they cannot be read or show next to nothing: {passed_over:,}")
    return lines


def _print(found, lines, data, pairs):
    rows = found["classes"]
    chosen = sorted(rows, key=lambda row: sum(row[part] for part in PARTS))[:SHOWN]
    title = f"The {SHOWN} smallest of {len(rows):,} classes" if len(rows) > SHOWN else None
    cells = [[row["name"], *_counts(row)] for row in (rows if len(rows) <= SHOWN else chosen)]
    print_table(("class", *PARTS), cells, last=("together", *_counts(found["images"])), title=title)
    for line in lines:
        print(line)
    for pair in (pairs or [])[:NAMES]:
        print("  " + " and ".join(f"{shown(_name(data, part, index))} ({part})" for part, index in pair))


def _counts(row):
    return [f"{row[part]:,}" for part in PARTS]


def _name(data, part, index):
    return data.left_out.name_of(getattr(data, part).images.name(index))


def _groups(data, pairs):
    """(heading, note, images) of the sheet: pairs that look the same, then the classes."""
    groups = []
    if pairs:
        images = [
            _image(getattr(data, part).images, index, f"{part}: {_name(data, part, index)}")
            for pair in pairs[:20]
            for part, index in pair
        ]
        groups.append(("Alike in different parts", "in pairs, the most alike first", images))
    for label, name in enumerate(data.class_names[:SHOWN]):
        images = []
        for part in PARTS:
            split = getattr(data, part)
            own = split.of_class(label)
            for index in own[:: -(-len(own) // EACH) or 1][: EACH if part == "train" else EACH // 4]:
                images.append(_image(split.images, index, part))
        groups.append((name, "", [image for image in images if image]))
    return [(heading, note, [image for image in images if image]) for heading, note, images in groups]


def _image(images, index, caption):
    """(caption, JPEG file) of a thumbnail; None for a file that cannot be read."""
    from PIL import Image

    try:
        if isinstance(images, ImageFiles):
            pixels = read_image(images.source(index), THUMBNAIL, images.grey_range)
        else:
            pixels = images[index]
    except ValueError:
        return None
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=80)
    return shown(caption), buffer.getvalue()
