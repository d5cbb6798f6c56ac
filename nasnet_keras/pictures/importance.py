"""Which decisions go with high rewards: a chart of slopes with their uncertainty, as SVG.

Each feature by itself, by ordinary least squares: how much the reward changes with one more of it in a cell. What goes
together in the trials of a search that learns is not told apart.
"""

import math

from nasnet_keras.genotype import Genotype, canonical_name
from nasnet_keras.pictures.cells import COMBINE_LABELS, INK, MUTED, OPERATION_LABELS, document, escape, number
from nasnet_keras.pictures.curves import BEST, FAILED, GRID, check_trials, reward_of, scale

FEWEST = 20  # different networks, below which nothing is said
VARIED = 5  # of them, at least, that must differ from the commonest count
CELLS = {"normal": "Normal cell", "reduction": "Reduction cell"}
SOURCES = ("reads the older input", "reads the newer input", "reads a block")
WIDTH, NAMES, ROW, BOTTOM, GAP, RIGHT = 860.0, 190.0, 21.0, 56.0, 56.0, 34.0


def slopes(trials: list[dict]) -> dict:
    """How the reward goes with what is in the cells.

    Args:
        trials: the objects of `trials.jsonl`. Each network counts once, with its first reward.

    Returns:
        `{(cell, feature): (slope, half)}`: the change of the reward with one more of the feature, and half the width of
        its 95% interval. Empty below 20 different networks; a feature that hardly varies is left out.
    """
    rows, rewards = [], []
    for counts, reward in _networks(trials):
        rows.append(counts)
        rewards.append(reward)
    if len(rows) < FEWEST:
        return {}
    largest = max(map(abs, rewards)) or 1.0  # squares of any reward can be taken, and equal ones differ by nothing
    rewards, found = [reward / largest for reward in rewards], {}
    for feature in {feature: None for counts in rows for feature in counts}:
        values = [counts.get(feature, 0) for counts in rows]
        if len(values) - max(map(values.count, set(values))) >= VARIED:
            found[feature] = tuple(largest * value for value in _slope(values, rewards))
    return found


def importance_svg(trials: list[dict], title: str = "", direction: str = "max") -> str | None:
    """Draw the slopes, a column for each cell; None where there are too few trials.

    Args:
        trials: the objects of `trials.jsonl`.
        title: a heading inside the picture.
        direction: `"max"`, or `"min"` of a search whose lowest reward is the best.

    Returns:
        A self-contained SVG document: dots with 95% intervals, green or red where the interval lies on one side of 0:
        green is for the better.

    Raises:
        ValueError: `trials` is not a list of dicts.
    """
    check_trials(trials)
    found = slopes(trials)
    if not found:
        return None
    sign = -1 if direction == "min" else 1
    features = _in_order(found, sign)
    low = min(slope - half for slope, half in found.values())
    high = max(slope + half for slope, half in found.values())
    low, high, ticks = scale(min(low, 0.0), max(high, 0.0))
    column = (WIDTH - NAMES - RIGHT - GAP) / 2
    top = 62.0 if title else 38.0
    floor = top + ROW * len(features)
    parts = [f'<text x="20" y="28" font-size="15" font-weight="600" fill="{INK}">{escape(title)}</text>\n'] * bool(
        title
    )
    for row, feature in enumerate(features):
        y = number(top + ROW * (row + 0.5) + 4.5)
        parts.append(
            f'<text x="{number(NAMES - 12)}" y="{y}" text-anchor="end" fill="{INK}">{escape(feature)}</text>\n'
        )
    for place, (cell, name) in enumerate(CELLS.items()):
        left = NAMES + place * (column + GAP)

        def at_x(value, left=left):
            return left + column * (value - low) / (high - low)

        middle = number(left + column / 2)
        parts.append(f'<text x="{middle}" y="{number(top - 12)}" text-anchor="middle" fill="{MUTED}">{name}</text>\n')
        for value, decimals in ticks[:: max(1, math.ceil(len(ticks) / 5))]:
            x = number(at_x(value))
            parts.append(f'<path d="M{x} {number(top)}V{number(floor)}" stroke="{GRID}"/>')
            label = "0" if value == 0 else f"{value:+.{decimals}f}" if abs(value) < 1e6 else f"{value:+.3g}"
            parts.append(f'<text x="{x}" y="{number(floor + 18)}" text-anchor="middle" fill="{MUTED}">{label}</text>\n')
        zero = number(at_x(0.0))
        parts.append(f'<path d="M{zero} {number(top)}V{number(floor)}" stroke="{MUTED}"/>\n')
        for row, feature in enumerate(features):
            if (cell, feature) not in found:
                continue
            slope, half = found[cell, feature]
            colour = BEST if sign * slope > half else FAILED if sign * slope < -half else MUTED
            y, x = number(top + ROW * (row + 0.5)), number(at_x(slope))
            tip = f"{name}, one more {feature}: {slope:+.3g} ± {half:.2g}"
            parts.append(
                f'<g class="slope"><title>{escape(tip)}</title>'
                f'<path d="M{number(at_x(slope - half))} {y}H{number(at_x(slope + half))}" stroke="{colour}" '
                f'stroke-width="2" stroke-opacity="0.55"/><circle cx="{x}" cy="{y}" r="4" fill="{colour}"/></g>\n'
            )
    middle = number(NAMES + (WIDTH - NAMES - RIGHT) / 2)
    label = "change of the reward with one more of it in the cell, 95% interval"
    parts.append(f'<text x="{middle}" y="{number(floor + 42)}" text-anchor="middle" fill="{MUTED}">{label}</text>\n')
    height = floor + BOTTOM
    return document(WIDTH, height, f"{title or 'Importance of decisions'}: {len(found)} slopes.", parts)


def _networks(trials):
    """({(cell, feature): count}, reward) of each network of two inputs, once."""
    seen = set()
    for trial in trials:
        if (reward := reward_of(trial)) is None:
            continue
        try:
            genotype = Genotype.from_dict(trial.get("genotype"))
        except ValueError:
            continue
        name = trial.get("canonical")
        name = name if isinstance(name, str) else canonical_name(genotype)
        if name in seen or genotype.normal.inputs != 2:
            continue
        seen.add(name)
        counts = {}
        for cell in CELLS:
            for block in getattr(genotype, cell).blocks:
                features = [" ".join(OPERATION_LABELS[operation][:1]) for operation in block.operations]
                features += [SOURCES[min(state, 2)] for state in block.inputs]
                for feature in (*features, COMBINE_LABELS[block.combine]):
                    counts[cell, feature] = counts.get((cell, feature), 0) + 1
        yield counts, reward


def _slope(values, rewards):
    """Of the least squares line, and half of its 95% interval."""
    count = len(values)
    middle, mean = sum(values) / count, sum(rewards) / count
    spread = sum((value - middle) ** 2 for value in values)
    slope = sum((value - middle) * (reward - mean) for value, reward in zip(values, rewards, strict=True)) / spread
    rest = sum((reward - mean - slope * (value - middle)) ** 2 for value, reward in zip(values, rewards, strict=True))
    return slope, (1.96 + 2.5 / (count - 2)) * math.sqrt(rest / (count - 2) / spread)  # Student's, within 1%


def _in_order(found, sign):
    """The features: operations by their slopes, the best first, then what is read, then combinations.

    Args:
        found: of `slopes`.
        sign: -1 of a search that minimises, else 1.
    """
    operations = [label for label, _ in OPERATION_LABELS.values()]
    names = list(dict.fromkeys(feature for _, feature in found))

    def mean(feature):
        both = [slope for (_, name), (slope, _) in found.items() if name == feature]
        return sign * sum(both) / len(both)

    kinds = (operations, SOURCES, tuple(COMBINE_LABELS.values()))
    return [name for kind in kinds for name in sorted((n for n in names if n in kind), key=lambda n: -mean(n))]
