"""Curves as SVG: the mean of several runs with Student's 95% band around it, or each run's own."""

from pathlib import Path

import numpy as np

T95 = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776, 6: 2.571, 7: 2.447, 8: 2.365, 9: 2.306, 10: 2.262}
T95 |= {11: 2.228, 12: 2.201, 13: 2.179, 14: 2.160, 15: 2.145, 16: 2.131, 17: 2.120, 18: 2.110, 19: 2.101, 20: 2.093}
WIDTH, HEIGHT, LEFT, TOP = 440, 300, 56, 34  # of a panel's plot, and the room beside and above it


def interval(numbers):
    """Mean and half width of its 95% interval, 0 for a single number, of which nothing is known."""
    numbers = np.asarray(numbers)
    if len(numbers) == 1:
        return float(numbers[0]), 0.0
    return float(numbers.mean()), float(T95[len(numbers)] * numbers.std(ddof=1) / len(numbers) ** 0.5)


def draw(panels, colours, trials, window, path):
    """Draw running means over the trials, side by side, one panel for each title.

    Args:
        panels: `{title: {name: [values of each run]}}`, one value a trial.
        colours: a colour for each name.
        trials: trials of a run.
        window: trials that a mean is over.
        path: the SVG file.
    """
    steps, parts = list(range(window, trials + 1, max(1, trials // 60))), []
    for place, (title, results) in enumerate(panels.items()):
        bands = {}
        for name, runs in results.items():
            means = [[values[at - window : at].mean() for at in steps] for values in runs]
            bands[name] = np.array([interval(column) for column in zip(*means, strict=True)])
        low = min(float((band[:, 0] - band[:, 1]).min()) for band in bands.values())
        high = max(float((band[:, 0] + band[:, 1]).max()) for band in bands.values())
        frame, x, y = _frame(place, title, low, high, trials)
        parts += frame
        for name, band in bands.items():
            upper = [f"{x(s):.1f},{y(m + h):.1f}" for s, (m, h) in zip(steps, band, strict=True)]
            lower = [f"{x(s):.1f},{y(m - h):.1f}" for s, (m, h) in zip(steps, band, strict=True)]
            parts.append(f'<polygon points="{" ".join(upper + lower[::-1])}" fill="{colours[name]}" opacity="0.18"/>')
            parts.append(_line([(x(s), y(m)) for s, (m, _) in zip(steps, band, strict=True)], colours[name]))
    _write(parts, panels, colours, path)


def draw_lines(panels, colours, path):
    """Draw the course of each run, side by side, one panel for each title.

    Args:
        panels: `{title: {name: [points of each run]}}`, points being pairs (x from 0, y).
        colours: a colour for each name.
        path: the SVG file.
    """
    parts = []
    for place, (title, results) in enumerate(panels.items()):
        points = [point for runs in results.values() for run in runs for point in run]
        heights = [y for _, y in points]
        frame, x, y = _frame(place, title, min(heights), max(heights), max(x for x, _ in points))
        parts += frame
        for name, runs in results.items():
            for run in runs:
                parts.append(_line([(x(across), y(up)) for across, up in run], colours[name]))
                parts += [
                    f'<circle cx="{x(across):.1f}" cy="{y(up):.1f}" r="2.5" fill="{colours[name]}"/>'
                    for across, up in run
                ]
    _write(parts, panels, colours, path)


def _frame(place, title, low, high, end):
    """A panel's title, grid and ticks, and its functions from values to coordinates."""
    origin = place * (WIDTH + LEFT + 20) + LEFT

    def x(value):
        return origin + WIDTH * value / end

    def y(value):
        return TOP + HEIGHT * (high - value) / (high - low)

    parts = [f'<text x="{origin}" y="20" font-weight="600">{title}</text>']
    for tick in _ticks(low, high):
        parts.append(
            f'<line x1="{origin}" x2="{origin + WIDTH}" y1="{y(tick):.1f}" y2="{y(tick):.1f}" stroke="#e3e7eb"/>'
        )
        parts.append(f'<text x="{origin - 6}" y="{y(tick) + 4:.1f}" text-anchor="end">{tick:.4g}</text>')
    for tick in _ticks(0, end):
        parts.append(f'<text x="{x(tick):.1f}" y="{TOP + HEIGHT + 18}" text-anchor="middle">{tick:.4g}</text>')
    return parts, x, y


def _ticks(low, high):
    """Four to ten round numbers from `low` to `high`."""
    power = 10 ** np.floor(np.log10(high - low))
    step = next(share * power for share in (0.1, 0.2, 0.5, 1) if (high - low) / (share * power) < 10)
    return step * np.arange(round(np.ceil(low / step - 1e-9)), high / step + 1e-9)


def _line(points, colour):
    """A line through points of the picture."""
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>'


def _write(parts, panels, colours, path):
    """Write the picture, with the names of the colours under it."""
    before = (len(panels) - 1) * (WIDTH + LEFT + 20) + LEFT
    full = before + max(WIDTH + 30, 8 * len(list(panels)[-1]))
    names, across = list(dict.fromkeys(name for results in panels.values() for name in results)), full // 290
    for at, name in enumerate(names):
        row, column = TOP + HEIGHT + 44 + 18 * (at // across), LEFT + 290 * (at % across)
        parts.append(f'<rect x="{column}" y="{row - 9}" width="14" height="10" fill="{colours[name]}"/>')
        parts.append(f'<text x="{column + 20}" y="{row}">{name}</text>')
    high = TOP + HEIGHT + 54 + 18 * -(-len(names) // across)
    Path(path).write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {full} {high}" width="{full}" '
        f'font-family="system-ui, sans-serif" font-size="12" fill="#1f2933">'
        f'<rect width="100%" height="100%" fill="#fff"/>{"".join(parts)}</svg>\n',
        encoding="utf-8",
    )
