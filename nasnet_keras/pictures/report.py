"""A search as one HTML file, finished or still running.

The file needs nothing else: no network, no script. It is made from the lines of
`trials.jsonl`, in the order in which they stand there, and of `updates.jsonl`; the same lines give the
same file. Everything that comes from data is escaped, and a trial that lacks a figure, or
has one of the wrong type, shows a dash. The curve itself is drawn in `curves.py`.
"""

import json
import re
from collections import Counter

from nasnet_keras.genotype import Genotype
from nasnet_keras.pictures.cells import cell_svg, escape, genotype_svg
from nasnet_keras.pictures.curves import (
    WINDOW,
    check_trials,
    finished,
    finite,
    is_failed,
    merit_of,
    reward_of,
    search_curve_svg,
)
from nasnet_keras.pictures.importance import importance_svg
from nasnet_keras.pictures.pareto import COSTS, cost_of, pareto_front, pareto_svg, short

BEST = 10
DASH = "\u2013"
# What a reason for a failure has of the one trial: digests and addresses, numbers, and what is none.
FIGURES = re.compile(r"\b0x[0-9a-f]+|\b[0-9a-f]{12,}\b|[-+]?(\d+([.,]\d+)*(e[-+]?\d+)?|\b(nan|inf)\b)", re.IGNORECASE)
RENEWED = '<meta http-equiv="refresh"'
STYLE = """
:root{color-scheme:light dark;--page:#f5f6f8;--card:#fff;--ink:#1f2933;--muted:#5b6774;--line:#d9dee4}
@media (prefers-color-scheme:dark){:root{--page:#14181d;--card:#1d232a;--ink:#e6eaee;--muted:#9aa7b4;--line:#36404b}}
*{box-sizing:border-box}
body{margin:0;background:var(--page);color:var(--ink);
 font:16px/1.5 system-ui,-apple-system,'Segoe UI',Roboto,sans-serif}
main{max-width:1180px;margin:0 auto;padding:28px 20px 60px}
h1{font-size:1.7rem;line-height:1.25;margin:0 0 20px;overflow-wrap:anywhere}
h2{font-size:1.15rem;margin:36px 0 12px}
.note{color:var(--muted);font-size:.9rem;margin:8px 0 0}
.figures{display:grid;grid-template-columns:repeat(auto-fit,minmax(150px,1fr));gap:12px;margin:0}
.figures div{background:var(--card);border:1px solid var(--line);border-radius:10px;padding:12px 16px}
.figures dt{color:var(--muted);font-size:.85rem}
.figures dd{margin:2px 0 0;font-size:1.55rem;font-weight:650;font-variant-numeric:tabular-nums;line-height:1.25}
.figures small{display:block;color:var(--muted);font-size:.8rem;font-weight:400}
.scroll{overflow-x:auto}
.scroll svg{display:block}
.curve svg{min-width:620px;width:100%}
.cells{display:flex;flex-wrap:wrap;gap:8px;align-items:flex-end;justify-content:space-evenly;
 background:#fff;border:1px solid var(--line);border-radius:10px}
.cells figure{margin:0;max-width:100%}
.cells svg > rect{stroke:none}
section > details{margin-top:10px}
table{border-collapse:collapse;width:100%;background:var(--card);border:1px solid var(--line);font-size:.93rem}
th,td{padding:8px 14px;text-align:right;white-space:nowrap;font-variant-numeric:tabular-nums}
th{color:var(--muted);font-weight:600;font-size:.85rem}
thead th,tbody tr.first td,tbody tr.first th{border-bottom:0;border-top:1px solid var(--line)}
th.text,td.text{text-align:left;white-space:normal;overflow-wrap:anywhere}
tr.more td{padding:0 14px 10px;text-align:left}
summary{cursor:pointer;color:var(--muted);font-size:.88rem}
pre{overflow-x:auto;font-size:.8rem;margin:10px 0 0}
details svg{margin-top:10px}
@media print{body{background:#fff}main{max-width:none}}
"""


def search_report(
    trials: list[dict],
    *,
    title: str = "NASNet search",
    best: Genotype | None = None,
    summary: dict | None = None,
    updates: list[dict] = (),
    choice: dict | None = None,
    live: dict | None = None,
    advice: str = "",
    again: int = 0,
    direction: str = "max",
) -> str:
    """Describe a search in one HTML document.

    Args:
        trials: the objects of `trials.jsonl`, any number of them, in the order of the file. Rewards
            that are no finite numbers count as none.
        title: the heading.
        best: the genotype to show as found; by default that of the trial with the best reward, or of the `chosen`
            one where `choice` has another rule than that.
        summary: final figures to show as a table, `{row: value}` or `{row: {column: value}}`, such as
            test accuracies under the same budget.
        updates: the objects of `controller/updates.jsonl`: of a controller that has learnt from stale rewards, what
            these were worth to it is shown.
        choice: how the best was chosen: `cost`, of what the front is shown (see `pareto.cost_of`; by default
            multiply-adds), `prefer`, the rule, `chosen`, a `trial_id`, `further`, what has decided beside the rule, and
            `complaint`, how the rule does not work on these trials.
        live: of a search that runs, as `results.live.LiveReport` tells it: the page then says what is running, and
            renews itself.
        advice: a last line.
        again: how often a trial was given out once more, as its worker was lost or its child had an accident.
        direction: `"max"`, or `"min"` of a search that minimises, such as a loss: the lowest reward is the best.

    Returns:
        The document: self-contained HTML that is also well-formed XML.

    Raises:
        ValueError: `trials` is not a list of dicts, `best` no `Genotype`, or `direction` another one.

    Examples:
        >>> from nasnet_keras import search_report
        >>> search_report([], title="My search").count("My search") > 0
        True
    """
    check_trials(trials)
    if best is not None and not isinstance(best, Genotype):
        raise ValueError(f"`best` must be a Genotype or None. Received: {best!r}")
    if direction not in ("max", "min"):
        raise ValueError(f"`direction` must be max or min. Received: {direction!r}")
    ranking = sorted(_originals(trials), key=lambda trial: -merit_of(trial, direction))[:BEST]
    choice = dict(choice or {})
    complaint = choice.pop("complaint", None)
    if best is None:
        best = _chosen(trials, ranking, choice.get("prefer", "reward"), choice.get("chosen"))
    parts = [
        f"<h1>{escape(title)}</h1>",
        _headline(trials, updates, again, direction),
        _now(trials, live) if live else "",
        _section("Final figures", _summary_table(summary)) if summary else "",
        _section("Reward", f'<div class="scroll curve">{search_curve_svg(trials, direction=direction)}</div>'),
        _costs(trials, direction, **choice),
        _section("Found cells", _found(best, complaint, bool(ranking))),
        _section("Best trials", _ranking_table(ranking)),
        _importance(trials, direction),
        _failures(trials),
        f'<p class="note">{escape(advice)}</p>' if advice else "",
    ]
    body = "\n".join(part for part in parts if part)
    renewed = f'{RENEWED} content="{max(1, round(live["every"]))}"/>\n' if live else ""
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8"/>\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1"/>\n'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\"/>\n"
        f"{renewed}<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n{body}\n</main>\n"
        "</body>\n</html>\n"
    )


def renews_itself(page: str) -> bool:
    """Whether a page is that of a search which ran when it was written."""
    return RENEWED in page.partition("<title>")[0]


def failure_reasons(trials: list[dict]) -> list[tuple[str, int]]:
    """Why trials failed, and how many for each reason, the commonest first.

    Reasons that differ only in their figures, such as each child's own size, are one, by the text of the first trial.
    """
    texts, counts = {}, Counter()
    for trial in filter(is_failed, trials):
        reason = str(trial.get("reason") or "no reason was given")
        kind = FIGURES.sub("#", reason.partition("Received:")[0])
        texts.setdefault(kind, reason)
        counts[kind] += 1
    return [(texts[kind], count) for kind, count in counts.most_common()]


def _section(heading, content):
    return f"<section>\n<h2>{heading}</h2>\n{content}\n</section>"


def _originals(trials):
    """The trials with a reward, but for those that only repeat another of them: the network is there already."""
    rewarded = finished(trials)
    known = {str(trial.get("trial_id")) for trial in rewarded}
    return [trial for trial in rewarded if not trial.get("replayed") or str(trial["replayed"]) not in known]


def _headline(trials, updates, again, direction):
    rewards = [reward_of(trial) for trial in finished(trials)]
    best = min if direction == "min" else max
    failed = sum(map(is_failed, trials))
    running = len(trials) - len(rewards) - failed
    last = rewards[-WINDOW:]
    few = f"there are {len(last)}" if 0 < len(last) < WINDOW else ""
    seconds = [trial.get("seconds") for trial in trials]
    figures = [
        ("Trials done", _value(len(rewards)), f"{_value(running)} without a result yet" if running else ""),
        ("Failed", _value(failed), ""),
        ("Best reward", _reward(best(rewards, default=None)), ""),
        (f"Mean of the last {WINDOW}", _reward(sum(last) / len(last) if last else None), few),
        ("Time in trials", _duration(sum(value for value in seconds if finite(value) and value > 0)), ""),
    ]
    replayed = sum(bool(trial.get("replayed")) for trial in trials)
    if replayed:
        figures.append(("Replayed", _value(replayed), "networks that were trained before"))
    stale = [trial["staleness"] for trial in trials if finite(trial.get("staleness"))]
    if any(stale):
        figures.append(("Mean staleness", f"{sum(stale) / len(stale):.1f}", f"updates, at most {_value(max(stale))}"))
    asked = ("weight", "effective_sample_size", "clipped")
    last = [update for update in updates if all(finite(update.get(name)) for name in asked)][-WINDOW:]
    if any(update["weight"] != 1 for update in last):
        worth = sum(update["effective_sample_size"] for update in last) / len(last)
        clipped = sum(update["clipped"] for update in last) / len(last)
        figures.append(("Effective rewards", f"{worth:.1f}", f"an update, {clipped:.0%} of its ratios clipped"))
    workers = {str(trial["worker"]) for trial in trials if trial.get("worker")}
    if len(workers) > 1:
        figures.append(("Workers", _value(len(workers)), "that have answered"))
    if again:
        figures.append(("Given out again", _value(again), "runs that were lost or broken off"))
    return _figures(figures)


def _figures(figures):
    """Cards of (label, value, note)."""
    items = [
        f"<div><dt>{label}</dt><dd>{value}{f'<small>{note}</small>' if note else ''}</dd></div>"
        for label, value, note in figures
    ]
    return f'<dl class="figures">\n{"".join(items)}\n</dl>'


def _now(trials, live):
    """What is running, and how long it will take."""
    rows = [
        f'<tr class="first"><td class="text">{escape(str(one["trial_id"])[:40])}</td>'
        f'<td class="text">{escape(str(one["worker"])[:80])}</td><td>{_duration(one["seconds"])}</td></tr>'
        for one in live["running"]
    ]
    names = "".join(f'<th scope="col" class="text">{name}</th>' for name in ("Trial", "Worker"))
    head = f'<tr>{names}<th scope="col">For</th></tr>'
    body = "\n".join(rows) or '<tr class="first"><td class="text" colspan="3">nothing at this moment</td></tr>'
    until = f", until {live['until']}" if live["until"] else ""
    left = "" if live["left"] is None else f" About {_duration(max(0, live['left']))} left{until}."
    note = f"As of {live['at']}: {len(trials):,} of {live['max_trials']:,} trials have ended.{left}"
    note += f" This page renews itself every {max(1, round(live['every']))} s while the search runs."
    table = f'<div class="scroll"><table>\n<thead>{head}</thead>\n<tbody>\n{body}\n</tbody>\n</table></div>'
    return _section("Running now", f'{_place(live.get("place"))}{table}\n<p class="note">{escape(note)}</p>')


def _place(place):
    """Nodes, workers, what is lost and what waits, of a search whose children run elsewhere."""
    if not place:
        return ""
    starting = f"{place['working']} of them work" + (f", {place['starting']} more start" if place["starting"] else "")
    items = [("Nodes", place["nodes"], ""), ("Workers now", place["workers"], starting)]
    items += [("Runs lost", place["lost"], "and given out again"), ("Trials that wait", place["waiting"], "")]
    link = escape(place["dashboard"] or "")
    link = f'\n<p class="note">Ray has a page of its own: <a href="{link}">{link}</a></p>' if link else ""
    return f"{_figures([(label, _value(value), note) for label, value, note in items])}{link}\n<br/>\n"


def _chosen(trials, ranking, prefer, chosen):
    """The genotype that the rule has chosen, by the little that a page is told; None where that is none."""
    if prefer != "reward":
        ranking = [trial for trial in trials if chosen is not None and trial.get("trial_id") == chosen]
    return _genotype(ranking[0]) if ranking else None


def _found(best, complaint, has_rewards):
    note = f'<p class="note">{escape(complaint)}.</p>' if complaint else ""
    if best is None:
        why = "None is chosen." if has_rewards else "None yet: no trial has ended with a reward."
        return f'<p class="note">{why}</p>{note}'
    cells = ((best.normal, "Normal cell"), (best.reduction, "Reduction cell"))
    figures = "\n".join(f'<figure class="scroll">{cell_svg(cell, name)}</figure>' for cell, name in cells)
    text = escape(best.to_json())
    return (
        f'<div class="cells">\n{figures}\n</div>\n'
        f"<details>\n<summary>The genotype as JSON</summary>\n<pre>{text}</pre>\n</details>{note}"
    )


RULES = {
    "reward": "the {best} reward",
    "within": "the cheapest of those whose reward is at most {bound} {worse} the {best}",
    "below": "the {best} reward of those that cost at most {bound}",
}
WORDS = {"max": {"best": "highest", "worse": "below"}, "min": {"best": "lowest", "worse": "above"}}


def _costs(trials, direction, cost="multiply_adds", prefer="reward", chosen=None, further=""):
    front = pareto_front(trials, cost, direction)
    if not front:
        return ""
    rule, _, bound = prefer.partition(":")
    words = RULES[rule].format(bound=bound, **WORDS[direction]) if rule in RULES else prefer
    words = escape(words + (f"; {further}" if further else ""))
    note = f'<p class="note">A trial is on the front if no other is both better and cheaper. Found by: {words}.</p>'
    columns = () if cost in COSTS else (cost,)
    picture = f'<div class="scroll curve">{pareto_svg(trials, cost, chosen, direction=direction)}</div>'
    return _section("Reward and cost", f"{picture}\n{note}\n<br/>\n{_ranking_table(front[::-1], columns)}")


def _importance(trials, direction):
    picture = importance_svg(trials, direction=direction)
    if picture is None:
        return ""
    note = (
        "Each by itself, over all different networks of this search. Of so many intervals some miss 0 by chance, and "
        "in a search that learns a decision also gets the credit of what it usually goes with."
    )
    return _section(
        "What goes with the reward", f'<div class="scroll curve">{picture}</div>\n<p class="note">{note}</p>'
    )


def _ranking_table(ranking, further=()):
    if not ranking:
        return '<p class="note">None yet.</p>'
    names = ["Rank", "Trial", "Reward", "Parameters", "Multiply-adds", "Seconds", *(escape(name) for name in further)]
    head = "".join(f'<th scope="col">{name}</th>' for name in names)
    rows = []
    for rank, trial in enumerate(ranking, 1):
        cells = [rank, escape(str(trial.get("trial_id", DASH))[:40]), _reward(reward_of(trial))]
        cells += [_value(trial.get("parameters")), _value(trial.get("multiply_adds")), _seconds(trial.get("seconds"))]
        own = [cost_of(trial, name) for name in further]
        cells += [DASH if cost is None else short(cost) for cost in own]
        rows.append('<tr class="first">' + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")
        rows.append(f'<tr class="more"><td colspan="{len(names)}">{_drawing(trial)}</td></tr>')
    body = "\n".join(rows)
    return f'<div class="scroll"><table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table></div>'


def _drawing(trial):
    genotype = _genotype(trial)
    if genotype is None:
        shown = json.dumps(trial.get("genotype"), default=str)
        return f"<details><summary>genotype</summary><pre>{escape(shown[:2000])}</pre></details>"
    return f"<details><summary>cells</summary>{genotype_svg(genotype)}</details>"


def _genotype(trial):
    try:
        return Genotype.from_dict(trial.get("genotype"))
    except ValueError:
        return None


def _summary_table(summary):
    rows = {name: value if isinstance(value, dict) else {"": value} for name, value in summary.items()}
    columns = list(dict.fromkeys(column for row in rows.values() for column in row))
    head = "".join(f'<th scope="col">{escape(column)}</th>' for column in ["", *columns])
    lines = []
    for name, row in rows.items():
        cells = "".join(f"<td>{_value(row.get(column))}</td>" for column in columns)
        lines.append(f'<tr class="first"><th scope="row" class="text">{escape(name)}</th>{cells}</tr>')
    head = f"<thead><tr>{head}</tr></thead>\n" if any(columns) else ""
    return f'<div class="scroll"><table>\n{head}<tbody>\n' + "\n".join(lines) + "\n</tbody>\n</table></div>"


def _failures(trials):
    reasons = failure_reasons(trials)
    if not reasons:
        return ""
    shown, others = reasons[:BEST], sum(count for _, count in reasons[BEST:])
    rows = "\n".join(
        f'<tr class="first"><td class="text">{escape(reason[:300])}</td><td>{_value(count)}</td></tr>'
        for reason, count in [*shown, *([("other reasons", others)] if others else [])]
    )
    head = '<thead><tr><th scope="col" class="text">Reason</th><th scope="col">Trials</th></tr></thead>'
    return _section("Failed trials", f'<div class="scroll"><table>\n{head}\n<tbody>\n{rows}\n</tbody>\n</table></div>')


def _reward(value):
    return DASH if value is None else f"{value:.4f}" if abs(value) < 1e4 else f"{value:.4g}"


def _seconds(value):
    return f"{value:,.1f}" if finite(value) else DASH


def _value(value):
    """A figure or a text from outside, escaped."""
    if isinstance(value, bool | str):
        return escape(value)
    if not finite(value):
        return DASH
    return f"{value:,}" if isinstance(value, int) else _reward(value)


def _duration(seconds):
    if not finite(seconds):
        return DASH
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours = minutes // 60
    if not hours:
        return f"{minutes} min {rest} s"
    return f"{hours} h {minutes % 60} min" if hours < 72 else f"{hours // 24} d {hours % 24} h"
