"""Files that hold several images: of those the first one is used."""

import numpy as np

from nasnet_keras.data.findings import readable_ones
from nasnet_keras.data.greys import SAMPLE
from nasnet_keras.data.images import opened

ONE = ("JPEG", "MPO")  # cameras put previews and gain maps behind the photograph


def note_of_frames(sources, findings=None):
    """One line for the user where files have pages or frames that are not used, or None.

    Args:
        sources: paths, or encoded images as `bytes`; a sample of them is looked at, broken ones are passed over.
        findings: a `findings.Findings` that knows files which were looked at before; None for none.
    """
    places = np.unique(np.linspace(0, len(sources) - 1, min(SAMPLE, len(sources))).astype(int))
    found = list(readable_ones("frames", (sources[place] for place in places), _frames, findings))
    several = [count for count in found if count > 1]
    if not several:
        return None
    have = f"{len(several)} of {len(places)} images looked at have several pages or frames"
    return f"{have}, up to {max(several)}: the first is used"


def _frames(source):
    with opened(source) as (image, _):
        return 1 if image.format in ONE else getattr(image, "n_frames", 1)
