"""Whether heat maps show what an answer depends on: the deletion test (Petsiuk et al. 2018, arXiv 1806.07421).

    python benchmarks/deletion.py --flowers DIR [--limit 600] [--images 300]

A network is fine-tuned on flowers from the CIFAR-10 weights of the package. Of each test image the hottest places of
its heat map are covered with the mean colour, or as many at random, or the coldest; the more the accuracy falls, the
more depends on them. The figure and the heat maps go to docs/, the numbers beside this file.
"""

import argparse
import io
import json
import tempfile
from contextlib import nullcontext
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from nasnet_keras.pictures.cells import CARD_LINE, FONT, INK, MUTED, number
from nasnet_keras.pictures.curves import BEST, DOT, FAILED

HERE = Path(__file__).parent
RESULTS = HERE / "deletion.json"
FIGURE, MAPS = HERE.parent / "docs" / "deletion.svg", HERE.parent / "docs" / "heat_maps.jpg"
SHARES = (0.0, 0.05, 0.1, 0.2, 0.3, 0.5)
WAYS = {
    "hottest": (FAILED, "the hottest places"),
    "another's": (MUTED, "another image's hottest"),
    "random": (DOT, "random places"),
    "coldest": (BEST, "the coldest places"),
}
BLOCK = 4  # pixels of a place's side: noise of single pixels would hide nothing


def main():
    """Train, cover, count and draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--flowers", required=True, help="the folder with a folder for each kind")
    parser.add_argument("--limit", type=int, default=600, help="images to learn from")
    parser.add_argument("--images", type=int, default=300, help="test images, evenly of all")
    parser.add_argument("--image-size", type=int, default=48)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--directory", help="where the network goes, or lies already (default: nowhere)")
    options = parser.parse_args()
    from nasnet_keras import explain, fine_tune, load_data  # the table needs none of them

    data = load_data(options.flowers, image_size=options.image_size, limit=options.limit, seed=options.seed)
    # A directory that this training has left, or has begun, is gone on with.
    with nullcontext(options.directory) if options.directory else tempfile.TemporaryDirectory() as folder:
        settings = {"epochs": options.epochs, "seed": options.seed, "directory": folder}
        model = fine_tune("NASNetCIFAR", data.train, data.validation, data.class_names, **settings)
    places = np.unique(np.linspace(0, len(data.test) - 1, options.images).astype(int))
    images, labels = np.stack([data.test.images[int(place)] for place in places]), data.test.labels[places]
    found = [explain(model, image) for image in images]
    accuracy = measure(model, images, labels, [one.heat for one in found], np.random.default_rng(options.seed))
    settings = {name: value for name, value in vars(options).items() if name not in ("flowers", "directory")}
    RESULTS.write_text(json.dumps({**settings, "images": len(images), "shares": SHARES, "accuracy": accuracy}) + "\n")
    FIGURE.write_text(figure(accuracy, f"{len(images)} photographs of flowers, {options.image_size} pixels"), "utf-8")
    maps(found, labels, data.class_names).save(MAPS, quality=85)
    print("\n".join(table()))


def measure(model, images, labels, heats, rng):
    """{way: accuracy for each of SHARES} of images whose places are covered in the order of their heat."""
    from nasnet_keras import preprocess_input

    mean = images.mean((0, 1, 2)).round().astype("uint8")
    side = images.shape[1] // BLOCK
    blocks = [heat.reshape(side, BLOCK, side, BLOCK).mean((1, 3)).ravel() for heat in heats]
    # Where nothing is hot, any place is as good as another.
    orders = {"hottest": [np.lexsort((rng.random(side**2), -one)) for one in blocks]}
    # As many in one piece, where nothing of this image says why.
    orders["another's"] = orders["hottest"][len(images) // 2 :] + orders["hottest"][: len(images) // 2]
    orders["random"] = [rng.permutation(side**2) for _ in blocks]
    orders["coldest"] = [order[::-1] for order in orders["hottest"]]
    accuracy = {}
    for way, ordered in orders.items():
        accuracy[way] = []
        for share in SHARES:
            covered = images.copy()
            for image, order in zip(covered, ordered, strict=True):
                mask = np.zeros(side**2, bool)
                mask[order[: round(share * side**2)]] = True
                image[mask.reshape(side, side).repeat(BLOCK, 0).repeat(BLOCK, 1)] = mean
            answers = model.predict(preprocess_input(covered), verbose=0).argmax(-1)
            accuracy[way].append(float(np.mean(answers == labels)))
    return accuracy


def maps(found, labels, names, each=2):
    """Photographs beside their heat maps: of each kind the surest right answers."""
    tiles = []
    for label, name in enumerate(names):
        own = [one for one, real in zip(found, labels, strict=True) if real == label == one.index]
        for one in sorted(own, key=lambda one: -one.score)[:each]:
            tiles.append((f"{name}, {one.score:.0%} sure", Image.open(io.BytesIO(one.png())).resize((392, 192))))
    page = Image.new("RGB", (each * 404, -(-len(tiles) // each) * 218), "white")
    draw = ImageDraw.Draw(page)
    for place, (caption, tile) in enumerate(tiles):
        x, y = place % each * 404 + 6, place // each * 218 + 4
        page.paste(tile, (x, y))
        draw.text((x, y + 196), caption, "black")
    return page


def figure(accuracy, title):
    """Accuracy over the share that is covered, a line for each way."""
    width, left, top, wide, high = 720, 70, 70, 600, 300

    def at(share, value):
        return left + wide * share / SHARES[-1], top + high * (1 - value)

    parts = [
        f'<text x="20" y="34" font-size="15" font-weight="600" fill="{INK}">Accuracy when places are covered</text>'
    ]
    parts.append(f'<text x="{left + wide}" y="34" text-anchor="end" fill="{MUTED}">{title}</text>')
    for value in (0, 0.2, 0.4, 0.6, 0.8, 1):
        y = at(0, value)[1]
        parts.append(f'<line x1="{left}" x2="{left + wide}" y1="{y}" y2="{y}" stroke="#e8ebee"/>')
        parts.append(f'<text x="{left - 8}" y="{y + 4}" text-anchor="end" fill="{MUTED}">{value:.0%}</text>')
    for share in SHARES:
        x = at(share, 0)[0]
        parts.append(
            f'<text x="{number(x)}" y="{top + high + 20}" text-anchor="middle" fill="{MUTED}">{share:.0%}</text>'
        )
    parts.append(f'<text x="{left + wide / 2}" y="{top + high + 42}" text-anchor="middle" fill="{INK}">covered</text>')
    for place, (way, (colour, words)) in enumerate(WAYS.items()):
        points = [at(share, value) for share, value in zip(SHARES, accuracy[way], strict=True)]
        line = " ".join(f"{number(x)},{number(y)}" for x, y in points)
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2.5"/>')
        parts += [f'<circle cx="{number(x)}" cy="{number(y)}" r="4" fill="{colour}"/>' for x, y in points]
        x, y = left + 5 + (0, 140, 325, 455)[place], top - 12
        parts.append(
            f'<circle cx="{x}" cy="{y - 4}" r="5" fill="{colour}"/>'
            f'<text x="{x + 12}" y="{y}" fill="{INK}">{words}</text>'
        )
    about = "; ".join(f"{words}: {accuracy[way][SHARES.index(0.1)]:.1%} at a tenth" for way, (_, words) in WAYS.items())
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} 430" width="{width}" height="430" role="img" '
        f'aria-label="Accuracy over the share of an image that is covered. {about}." font-family="{FONT}" '
        f'font-size="13" style="max-width:100%;height:auto">'
        f'<rect x="0.5" y="0.5" width="{width - 1}" height="429" rx="10" fill="#ffffff" '
        f'stroke="{CARD_LINE}"/>{"".join(parts)}</svg>\n'
    )


def table():
    """The results as lines of Markdown."""
    results = json.loads(RESULTS.read_text())
    yield f"| covered | {' | '.join(f'{share:.0%}' for share in results['shares'])} |"
    yield "|---" * (len(results["shares"]) + 1) + "|"
    for way, (_, words) in WAYS.items():
        yield f"| {words} | {' | '.join(f'{value:.1%}' for value in results['accuracy'][way])} |"


if __name__ == "__main__":
    main()
