"""Pixels of more than 8 bits that use only a part of their range: what would be lost, and what to say against it."""

import numpy as np

from nasnet_keras.data.findings import readable_ones
from nasnet_keras.data.images import read_deep_colours, read_greys, read_header

SAMPLE = 64  # images that are looked at
UNUSED = "`grey_range` changes nothing here: {} greys of more than 8 bits; a network that learns from them keeps it"


def grey_note(sources, grey_range=None, findings=None, given=False, where=""):
    """One line for the user where pixels of more than 8 bits would lose much of what they show, or None.

    Microscopes, scanners and cameras put 10 or 12 bits into files of 16, of which the high byte alone is nearly black.
    Of greys a range says what is black and white; of colours nothing does, which is said where a range is given.

    Args:
        sources: paths, or encoded images as `bytes`; a sample of them is looked at, broken ones are passed over.
        grey_range: as for `images.read_image`; where there is one, nothing needs to be said of greys.
        findings: a `findings.Findings` that knows files which were looked at before; None for none.
        given: whether `grey_range` is the user's own for these images, who is told where none of them needs it.
        where: words on where a range is given, if it is not here.
    """
    if not len(sources):
        return None
    places = np.unique(np.linspace(0, len(sources) - 1, min(SAMPLE, len(sources))).astype(int))
    readable = list(readable_ones("greys", (sources[place] for place in places), _deep, findings))
    found = list(filter(None, readable))
    greys = [values for values in found if len(values) == 3]
    colours = [values[0] for values in found if len(values) == 1]
    unused = given and grey_range is not None and readable and not found
    lines = [
        _of_greys(greys, len(places), where) if greys and grey_range is None else "",
        _of_colours(colours, len(places), grey_range) if colours else "",
        UNUSED.format(f"none of {len(places)} images looked at has") if unused else "",
    ]
    return "; ".join(filter(None, lines)) or None


def _of_greys(found, looked, where):
    unsigned, lowest, highest = zip(*found, strict=True)
    who = f"{len(found)} of {looked} images looked at have greys of more than 8 bits"
    low, high = min(lowest), max(highest)
    if not all(unsigned):
        found = f"{who} without an agreed range, here from {low:g} to {high:g}"
        return f"{found}{where}: say black and white, --grey-range LOW:HIGH"
    bits = max(8, int(high).bit_length())
    return f"{who}, and use {2 ** (bits - 8)} of 256 greys{where}: --grey-range 0:{2**bits - 1}" if bits < 16 else ""


def _of_colours(highest, looked, grey_range):
    who = f"{len(highest)} of {looked} images looked at have colours of 16 bits"
    bits = int(max(highest)).bit_length()
    said = [
        *(["which --grey-range does not change: it is for greys"] if grey_range is not None else []),
        *([f"and use {2**bits} of 256 values: convert them to 8 bits"] if bits < 8 else []),
    ]
    return ", ".join([who, *said]) if said else ""


def _deep(source):
    """[whether they have an agreed range, the least, the greatest] of deep greys, [the greatest] of what is kept of
    deep colours, nothing of others.
    """
    header = read_header(source)
    if header.deep_colours:
        return [int(read_deep_colours(source).max())]
    if not header.mode.startswith(("I", "F")):
        return []
    values = read_greys(source)
    return [values.dtype == np.uint16, float(np.nanmin(values)), float(np.nanmax(values))]
