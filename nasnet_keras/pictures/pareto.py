"""What a search found for which cost: the trials that no other one beats, as a list and as SVG.

What stands in a trial comes from outside: a reward and a cost count if they are finite numbers.
"""

from nasnet_keras.pictures.cells import INK, MUTED, document, escape, number
from nasnet_keras.pictures.curves import (
    BEST,
    BOTTOM,
    DOT,
    DOTS,
    GRID,
    LEFT,
    MEAN,
    PLOT,
    RIGHT,
    TOP,
    WIDTH,
    check_trials,
    finite,
    merit_of,
    reward_of,
    scale,
)

COSTS = ("multiply_adds", "parameters", "seconds")  # that have a place of their own in a line


def cost_of(trial: dict, cost: str) -> float | None:
    """A trial's cost, or None where there is none.

    Args:
        trial: an object of `trials.jsonl`.
        cost: `"multiply_adds"`, `"parameters"`, `"seconds"`, or the name of another number that the child has reported.
            A trial whose reward another one's stands for took no time, which says nothing of what its network takes.
    """
    metrics = trial.get("metrics")
    if cost == "seconds" and "replayed" in trial:
        return None
    value = trial.get(cost) if cost in COSTS else metrics.get(cost) if isinstance(metrics, dict) else None
    return float(value) if finite(value) else None


def pareto_front(trials: list[dict], cost: str = "multiply_adds", direction: str = "max") -> list[dict]:
    """The trials with a reward and a cost that no other trial beats in one of them without losing in the other.

    Args:
        trials: the objects of `trials.jsonl`.
        cost: see `cost_of`.
        direction: `"max"`, or `"min"` of a search whose lowest reward is the best.

    Returns:
        Some of the trials, the cheapest first and so the best last; of equals the one that ended first.
    """
    priced = [trial for trial in trials if reward_of(trial) is not None and cost_of(trial, cost) is not None]
    front = []
    for trial in sorted(priced, key=lambda trial: (cost_of(trial, cost), -merit_of(trial, direction))):
        if not front or merit_of(trial, direction) > merit_of(front[-1], direction):
            front.append(trial)
    return front


def pareto_svg(
    trials: list[dict],
    cost: str = "multiply_adds",
    chosen: object = None,
    title: str = "",
    direction: str = "max",
) -> str:
    """Draw the rewards of a search over a cost, with the front.

    Args:
        trials: the objects of `trials.jsonl`.
        cost: see `cost_of`.
        chosen: the `trial_id` of the trial that is taken for the best, which gets a ring.
        title: a heading inside the picture.
        direction: see `pareto_front`.

    Returns:
        A self-contained SVG document; of very many trials only the latest and the front get a dot.

    Raises:
        ValueError: `trials` is not a list of dicts.
    """
    check_trials(trials)
    front = pareto_front(trials, cost, direction)
    priced = [trial for trial in trials if reward_of(trial) is not None and cost_of(trial, cost) is not None]
    ring = next((trial for trial in priced if chosen is not None and trial.get("trial_id") == chosen), None)
    oldest = len(priced) - DOTS
    dots = [trial for place, trial in enumerate(priced) if place >= oldest or trial is ring]
    shown = [*dots, *front]  # the axes hold whatever is drawn
    costs, rewards = [cost_of(trial, cost) for trial in shown], [reward_of(trial) for trial in shown]
    low_x, high_x, x_ticks = scale(min(costs, default=0.0), max(costs, default=1.0))
    low_y, high_y, y_ticks = scale(min(rewards, default=0.0), max(rewards, default=1.0))
    right, floor = WIDTH - RIGHT, TOP + PLOT

    def at(trial):
        x = LEFT + (right - LEFT) * (cost_of(trial, cost) - low_x) / (high_x - low_x)
        return x, floor - PLOT * (reward_of(trial) - low_y) / (high_y - low_y)

    parts = [f'<text x="20" y="32" font-size="15" font-weight="600" fill="{INK}">{escape(title)}</text>\n']
    parts.append(f'<g fill="{MUTED}">\n')
    for value, decimals in y_ticks:
        y = floor - PLOT * (value - low_y) / (high_y - low_y)
        parts.append(f'<path d="M{number(LEFT)} {number(y)}H{number(right)}" stroke="{GRID}"/>')
        label = f"{value:.{decimals}f}" if abs(value) < 1e6 else f"{value:.3g}"
        parts.append(f'<text x="{number(LEFT - 9)}" y="{number(y + 4.5)}" text-anchor="end">{label}</text>\n')
    for value, _ in x_ticks:
        x = LEFT + (right - LEFT) * (value - low_x) / (high_x - low_x)
        parts.append(f'<path d="M{number(x)} {number(floor)}v5" stroke="{MUTED}"/>')
        parts.append(f'<text x="{number(x)}" y="{number(floor + 20)}" text-anchor="middle">{short(value)}</text>\n')
    parts.append(f'<path d="M{number(LEFT)} {number(floor)}H{number(right)}" stroke="{MUTED}"/>')
    parts.append(
        f'<text x="{number((LEFT + right) / 2)}" y="{number(floor + 42)}" text-anchor="middle">'
        f"{escape(cost.replace('_', ' '))}</text>"
        f'<text transform="translate(18 {number(floor - PLOT / 2)}) rotate(-90)" text-anchor="middle">reward</text>'
        "</g>\n"
    )
    parts.append(f'<g fill="{DOT}" fill-opacity="0.55">\n')
    for trial in dots:
        parts.append(_dot(trial, at(trial), cost, 3.2))
    parts.append("</g>\n")
    if front:
        steps = [at(trial) for trial in front]
        line = f"M{number(steps[0][0])} {number(steps[0][1])}"
        line += "".join(f"H{number(x)}V{number(y)}" for x, y in steps[1:]) + f"H{number(right)}"
        parts.append(
            f'<path class="front" d="{line}" fill="none" stroke="{BEST}" stroke-width="2"/>\n<g fill="{BEST}">\n'
        )
        parts += [_dot(trial, at(trial), cost, 4.6) for trial in front]
        parts.append("</g>\n")
    if ring:
        x, y = map(number, at(ring))
        parts.append(
            f'<circle class="chosen" cx="{x}" cy="{y}" r="8.5" fill="none" stroke="{MEAN}" stroke-width="2.4"/>\n'
        )
    name = "trial" if len(priced) <= DOTS else f"trial, of the last {DOTS:,}"
    signs = [(f'<circle cx="6" cy="-5" r="4" fill="{DOT}"/>', name)] * bool(priced)
    signs += [(f'<path d="M-4 -5h16" stroke="{BEST}" stroke-width="2"/>', "front: none is better and cheaper")] * bool(
        front
    )
    signs += [(f'<circle cx="6" cy="-5" r="6" fill="none" stroke="{MEAN}" stroke-width="2.4"/>', "found")] * bool(ring)
    x = LEFT + 4
    for sign, name in signs:
        parts.append(f'<g transform="translate({number(x)} {number(TOP - 22)})">{sign}')
        parts.append(f'<text x="18" fill="{INK}">{name}</text></g>\n')
        x += 7.0 * len(name) + 40
    height = floor + BOTTOM
    words = f"{title or 'Reward and cost'}: {len(priced)} trials, {len(front)} on the front"
    return document(WIDTH, height, f"{words}.", parts)


def short(value: float) -> str:
    """A number of any size in few letters: 1.5M."""
    for power, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= power:
            return f"{value / power:.4g}{letter}"
    return f"{value:.4g}"


def _dot(trial, place, cost, radius):
    tip = (
        f"trial {trial.get('trial_id')}: {reward_of(trial):.4g}, {cost.replace('_', ' ')} {short(cost_of(trial, cost))}"
    )
    x, y = map(number, place)
    return f'<circle cx="{x}" cy="{y}" r="{radius}"><title>{escape(tip[:120])}</title></circle>\n'
