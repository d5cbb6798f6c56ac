"""Greys of more than 8 bits that use only a part of their range: what would be lost, and what to say against it."""

import numpy as np

from nasnet_keras.data.findings import look
from nasnet_keras.data.images import read_greys, read_header, reason

SAMPLE = 64  # images that are looked at


def grey_note(sources, grey_range=None, findings=None):
    """One line for the user where greys of more than 8 bits would lose much of what they show, or None.

    Microscopes, scanners and cameras put 10 or 12 bits into files of 16, of which the high byte alone is nearly black.

    Args:
        sources: paths, or encoded images as `bytes`; a sample of them is looked at, broken ones are passed over.
        grey_range: as for `images.read_image`; where there is one, nothing needs to be said.
        findings: a `findings.Findings` that knows files which were looked at before; None for none.
    """
    if grey_range is not None or not len(sources):
        return None
    places = np.unique(np.linspace(0, len(sources) - 1, min(SAMPLE, len(sources))).astype(int))
    found = [look("greys", sources[place], _greys, findings) for place in places]
    found = [values for values in found if values and not isinstance(values, str)]
    if not found:
        return None
    unsigned, lowest, highest = zip(*found, strict=True)
    who = f"{len(found)} of {len(places)} images looked at have greys of more than 8 bits"
    low, high = min(lowest), max(highest)
    if not all(unsigned):
        return (
            f"{who} without an agreed range, here from {low:g} to {high:g}: say black and white, --grey-range LOW:HIGH"
        )
    bits = max(8, int(high).bit_length())
    if bits > 15:
        return None
    return f"{who}, and use {2 ** (bits - 8)} of 256 greys: --grey-range 0:{2**bits - 1}"


def _greys(source):
    """[whether they have an agreed range, the least, the greatest] of deep greys; nothing of others; or a reason."""
    try:
        if not read_header(source).mode.startswith(("I", "F")):
            return []
        values = read_greys(source)
    except ValueError as error:
        return reason(source, error)
    return [values.dtype == np.uint16, float(np.nanmin(values)), float(np.nanmax(values))]
