"""Curves with confidence intervals: the mean of several runs and Student's 95% band around it, as SVG."""

from pathlib import Path

import numpy as np

T95 = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776, 6: 2.571, 7: 2.447, 8: 2.365, 9: 2.306, 10: 2.262}
T95 |= {11: 2.228, 12: 2.201, 13: 2.179, 14: 2.160, 15: 2.145, 16: 2.131, 17: 2.120, 18: 2.110, 19: 2.101, 20: 2.093}


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
    width, height, left, top = 440, 300, 56, 34
    parts = []
    for panel, (title, results) in enumerate(panels.items()):
        steps = list(range(window, trials + 1, max(1, trials // 60)))
        bands = {}
        for name, runs in results.items():
            means = [[values[at - window : at].mean() for at in steps] for values in runs]
            bands[name] = np.array([interval(column) for column in zip(*means, strict=True)])
        low = min(float((band[:, 0] - band[:, 1]).min()) for band in bands.values())
        high = max(float((band[:, 0] + band[:, 1]).max()) for band in bands.values())
        origin = panel * (width + left + 20) + left

        def x(trial, origin=origin):
            return origin + width * trial / trials

        def y(value, low=low, high=high):
            return top + height * (high - value) / (high - low)

        parts.append(f'<text x="{origin}" y="20" font-weight="600">{title}</text>')
        step = 10 ** np.floor(np.log10(high - low)) / 2
        for tick in np.arange(np.ceil(low / step) * step, high, step):
            parts.append(
                f'<line x1="{origin}" x2="{origin + width}" y1="{y(tick):.1f}" y2="{y(tick):.1f}" stroke="#e3e7eb"/>'
            )
            parts.append(f'<text x="{origin - 6}" y="{y(tick) + 4:.1f}" text-anchor="end">{tick:.3g}</text>')
        for tick in np.linspace(0, trials, 5):
            parts.append(f'<text x="{x(tick):.1f}" y="{top + height + 18}" text-anchor="middle">{tick:.0f}</text>')
        for at, (name, band) in enumerate(bands.items()):
            upper = [f"{x(s):.1f},{y(m + h):.1f}" for s, (m, h) in zip(steps, band, strict=True)]
            lower = [f"{x(s):.1f},{y(m - h):.1f}" for s, (m, h) in zip(steps, band, strict=True)]
            line = " ".join(f"{x(s):.1f},{y(m):.1f}" for s, (m, _) in zip(steps, band, strict=True))
            parts.append(f'<polygon points="{" ".join(upper + lower[::-1])}" fill="{colours[name]}" opacity="0.18"/>')
            parts.append(f'<polyline points="{line}" fill="none" stroke="{colours[name]}" stroke-width="2"/>')
            if panel == 0:
                row = top + height + 44 + 18 * (at // 3)
                column = left + 250 * (at % 3)
                parts.append(f'<rect x="{column}" y="{row - 9}" width="14" height="10" fill="{colours[name]}"/>')
                parts.append(f'<text x="{column + 20}" y="{row}">{name}</text>')
    full = len(panels) * (width + left + 20) + 10
    Path(path).write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {full} {top + height + 72}" width="{full}" '
        f'font-family="system-ui, sans-serif" font-size="12" fill="#1f2933">'
        f'<rect width="100%" height="100%" fill="#fff"/>{"".join(parts)}</svg>\n',
        encoding="utf-8",
    )
