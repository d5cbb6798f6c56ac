"""The reward of each trial over a search, as SVG: dots, failures, moving mean, best so far.

What stands in a trial comes from outside: a reward counts if it is a finite number.
"""

import math

from nasnet_keras.pictures.cells import INK, MUTED, document, escape, number

WIDTH, PLOT, TITLE = 860.0, 270.0, 26.0  # the picture's width, the plot's height, and a title's
LEFT, RIGHT, TOP, BOTTOM = 62.0, 22.0, 50.0, 60.0
WINDOW, FEWEST = 20, 5  # trials in the moving mean, and how many it needs at least
DOTS, FAILURES, STEPS = 4000, 600, 800  # at most drawn, so that the file stays small
DOT, MEAN, BEST, FAILED, GRID = "#4b83c4", "#d97706", "#15803d", "#c0262d", "#e8ebee"
BAD = ("FAILED", "INVALID")


def finite(value: object) -> bool:
    """Whether a value from outside is a finite number, true and false being none."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300


def is_failed(trial: dict) -> bool:
    """Whether a trial ended without a reward that counts."""
    return trial.get("status") in BAD or (trial.get("status") == "COMPLETED" and not finite(trial.get("reward")))


def reward_of(trial: dict) -> float | None:
    """A trial's reward, or None where there is none: it failed, or still runs."""
    reward = trial.get("reward")
    return float(reward) if finite(reward) and not is_failed(trial) else None


def merit_of(trial: dict, direction: str = "max") -> float | None:
    """A trial's reward as a number that is the higher the better: of a search that minimises the negative."""
    reward = reward_of(trial)
    return -reward if direction == "min" and reward is not None else reward


def finished(trials: list[dict]) -> list[dict]:
    """The trials with a reward, in their order."""
    return [trial for trial in trials if reward_of(trial) is not None]


def check_trials(trials: object) -> None:
    """Raise `ValueError` unless `trials` is a list of dicts."""
    if not isinstance(trials, list | tuple) or not all(isinstance(trial, dict) for trial in trials):
        raise ValueError(f"`trials` must be a list of dicts. Received: {str(trials)[:80]!r}")


def search_curve_svg(trials: list[dict], title: str = "", direction: str = "max") -> str:
    """Draw the rewards of a search over its trials.

    Args:
        trials: the objects of `trials.jsonl`, in the order of the file. Only `reward` and `status`
            matter, and `trial_id` and `reason` for the tooltips.
        title: a heading inside the picture.
        direction: `"max"`, or `"min"` of a search whose lowest reward is the best.

    Returns:
        A self-contained SVG document: a dot for each trial, a mark for each failed one, the mean of the
        last 20 (from the fifth reward on) and the best so far. Of very many trials only some get a dot.

    Raises:
        ValueError: `trials` is not a list of dicts.
    """
    check_trials(trials)
    points = [(place, trial, reward_of(trial)) for place, trial in enumerate(trials, 1) if reward_of(trial) is not None]
    failures = [(place, trial) for place, trial in enumerate(trials, 1) if is_failed(trial)]
    rewards = [reward for _, _, reward in points]
    low, high, y_ticks = scale(min(rewards, default=0.0), max(rewards, default=1.0))
    count = max(len(trials), 1)
    top = TOP + (TITLE if title else 0.0)
    height = top + PLOT + BOTTOM
    right, floor = WIDTH - RIGHT, top + PLOT

    def at_x(place):
        return LEFT + 12 + (right - LEFT - 24) * ((place - 1) / (count - 1) if count > 1 else 0.5)

    def at_y(reward):
        return floor - PLOT * (reward - low) / (high - low)

    best, means = _thin(_best_so_far(points, direction), STEPS), _thin(_moving_mean(points), STEPS)
    parts = [f'<text x="20" y="32" font-size="15" font-weight="600" fill="{INK}">{escape(title)}</text>\n'] * bool(
        title
    )
    parts += axes(floor, y_ticks, at_x, at_y, count)
    parts += _dots(points, {place for place, _ in best}, at_x, at_y)
    opacity = 1 if len(failures) <= 100 else 0.3
    for place, trial in _thin(failures, FAILURES):
        tip = f"trial {trial.get('trial_id', place)}: {trial.get('reason') or trial.get('status')}"
        parts.append(
            f'<path class="failed" d="M{number(at_x(place) - 3)} {number(floor - 9)}l6 6m0 -6l-6 6" stroke="{FAILED}" '
            f'stroke-width="1.6" stroke-opacity="{opacity}"><title>{escape(tip[:300])}</title></path>\n'
        )
    if means:
        line = "L".join(f"{number(at_x(place))} {number(at_y(mean))}" for place, mean in means)
        parts.append(f'<path class="mean" d="M{line}" fill="none" stroke="{MEAN}" stroke-width="2.4"/>\n')
    if best:
        line = f"M{number(at_x(best[0][0]))} {number(at_y(best[0][1]))}"
        line += "".join(f"H{number(at_x(place))}V{number(at_y(reward))}" for place, reward in best[1:])
        line += f"H{number(at_x(count))}"
        parts.append(f'<path class="best" d="{line}" fill="none" stroke="{BEST}" stroke-width="2"/>\n')
    parts += _legend(top - 22, bool(points), bool(means), bool(failures), min(len(points), DOTS) < len(points))
    words = f"{title or 'Reward over trials'}: {len(points)} trials with a reward, {len(failures)} failed"
    if best:
        words += f"; the best reward is {best[-1][1]:.4g}, the mean of the last {WINDOW} {_last_mean(rewards):.4g}"
    return document(WIDTH, height, f"{words}.", parts)


def _last_mean(rewards):
    return sum(rewards[-WINDOW:]) / len(rewards[-WINDOW:])


def _best_so_far(points, direction):
    """(place, reward) of each trial that was better than all before it."""
    steps, best = [], None
    for place, trial, reward in points:
        merit = merit_of(trial, direction)
        if best is None or merit > best:
            best = merit
            steps.append((place, reward))
    return steps


def _moving_mean(points):
    """(place, mean of the last `WINDOW` rewards), from the `FEWEST`-th reward on."""
    rewards = [reward for _, _, reward in points]
    return [
        (place, _last_mean(rewards[max(0, index + 1 - WINDOW) : index + 1]))
        for index, (place, _, _) in enumerate(points)
        if index + 1 >= FEWEST
    ]


def _thin(items, most):
    """At most about `most` of the items, evenly chosen, the last one among them."""
    if len(items) <= most:
        return items
    return [items[round(index * (len(items) - 1) / (most - 1))] for index in range(most)]


def _dots(points, records, at_x, at_y):
    chosen = _thin(points, DOTS)
    kept = {place for place, _, _ in chosen} | records
    chosen = [point for point in points if point[0] in kept] if len(chosen) < len(points) else chosen
    radius = 4.2 if len(chosen) <= 100 else 2.8 if len(chosen) <= 1000 else 1.7
    drawn = [f'<g fill="{DOT}" fill-opacity="{0.75 if len(chosen) <= 1000 else 0.4}">\n']
    for place, trial, reward in chosen:
        tip = escape(f"trial {trial.get('trial_id', place)}: {reward:.4g}"[:120])
        centre = f'cx="{number(at_x(place))}" cy="{number(at_y(reward))}"'
        drawn.append(f'<circle {centre} r="{radius}"><title>{tip}</title></circle>\n')
    return [*drawn, "</g>\n"]


def scale(low, high):
    """(lowest, highest, ticks) of an axis that holds both values, with some room."""
    if high - low < 1e-9 * max(1.0, abs(high)):
        room = 0.05 * max(1.0, abs(high))
        low, high = low - room, high + room
    step = _step((high - low) / 5)
    first, last = math.floor(low / step - 0.1), math.ceil(high / step + 0.1)
    return first * step, last * step, [(index * step, _decimals(step)) for index in range(first, last + 1)]


def _step(rough):
    """The first of 1, 2, 5, 10, ... times a power of ten that is not below a rough step."""
    power = 10.0 ** math.floor(math.log10(rough))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * (1 - 1e-9))


def _decimals(step):
    return max(0, -math.floor(math.log10(step) + 1e-9))


def axes(floor, y_ticks, at_x, at_y, count, names=("trial", "reward"), high=PLOT):
    """The axes of a plot, as elements.

    Args:
        floor: y of its lower edge.
        y_ticks: the ticks of `scale`.
        at_x, at_y: from a place, counted from 1, and from a value to coordinates.
        count: places.
        names: what stands along the axes.
        high: the plot's height.
    """
    right = WIDTH - RIGHT
    parts = [f'<g fill="{MUTED}">\n']
    for value, decimals in y_ticks:
        y = number(at_y(value))
        label = f"{value:.{decimals}f}" if abs(value) < 1e6 else f"{value:.3g}"
        parts.append(f'<path d="M{number(LEFT)} {y}H{number(right)}" stroke="{GRID}"/>')
        parts.append(f'<text x="{number(LEFT - 9)}" y="{number(float(y) + 4.5)}" text-anchor="end">{label}</text>\n')
    step = max(1, round(_step(count / 8)))
    for place in sorted({1, *range(step, count + 1, step)}):
        if 1 < place < 1 + 0.6 * step and step > 1 and place != step:
            continue
        x = number(at_x(place))
        parts.append(f'<path d="M{x} {number(floor)}v5" stroke="{MUTED}"/>')
        parts.append(f'<text x="{x}" y="{number(floor + 20)}" text-anchor="middle">{place:,}</text>\n')
    parts.append(f'<path d="M{number(LEFT)} {number(floor)}H{number(right)}" stroke="{MUTED}"/>')
    middle = number((LEFT + right) / 2)
    parts.append(f'<text x="{middle}" y="{number(floor + 42)}" text-anchor="middle">{names[0]}</text>')
    half = number(floor - high / 2)
    parts.append(f'<text transform="translate(18 {half}) rotate(-90)" text-anchor="middle">{names[1]}</text>\n</g>\n')
    return parts


def _legend(y, dots, means, failures, thinned):
    """Signs and their names, above the plot."""
    names = []
    if dots:
        names.append((f'<circle cx="6" cy="-5" r="4" fill="{DOT}"/>', "some of the trials" if thinned else "trial"))
    if means:
        names.append((f'<path d="M-4 -5h16" stroke="{MEAN}" stroke-width="2.4"/>', f"mean of the last {WINDOW}"))
    if dots:
        names.append((f'<path d="M-4 -5h16" stroke="{BEST}" stroke-width="2"/>', "best so far"))
    if failures:
        names.append((f'<path d="M3 -8l6 6m0 -6l-6 6" stroke="{FAILED}" stroke-width="1.6"/>', "failed"))
    x, parts = LEFT + 4, []
    for sign, name in names:
        text = f'<text x="18" fill="{INK}">{name}</text>'
        parts.append(f'<g transform="translate({number(x)} {number(y)})">{sign}{text}</g>\n')
        x += 7.4 * len(name) + 36
    return parts
