"""What a search shows in the terminal."""

import io

from rich.console import Console

from nasnet_keras.commands import progress


def shown(monkeypatch, *states, trials=()):
    """What stands on a terminal after a search with these states of its workers."""
    text = io.StringIO()
    monkeypatch.setattr(progress.sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(progress, "Console", lambda stderr: Console(file=text, width=160, force_terminal=True))
    with progress.SearchProgress(10) as bar:
        bar.update(trials)
        for state in states:
            bar.place(state)
    return text.getvalue()


def trial(staleness):
    return {"reward": 0.5, "staleness": staleness}


def test_nodes_workers_losses_queue_staleness_and_the_dashboard(monkeypatch):
    place = {"nodes": 3, "workers": 8, "working": 6, "starting": 1, "lost": 2, "waiting": 4, "dashboard": "http://a:1",
             "trouble": None}  # fmt: skip
    text = shown(monkeypatch, place, place, trials=[trial(1), trial(4)])
    assert text.count("Ray's dashboard: http://a:1") == 1
    for part in ("workers", "6/8", "3 nodes  1 starting  2 runs lost  4 trials wait  rewards 2.5 updates old"):
        assert part in text


def test_what_keeps_workers_away_is_said_once(monkeypatch):
    place = {"nodes": 1, "workers": 0, "working": 0, "starting": 1, "lost": 0, "waiting": 0, "dashboard": None}
    quiet, waiting = ({**place, "trouble": text} for text in (None, "waiting up to 600 s for a worker: no GPU [sic]"))
    text = shown(monkeypatch, quiet, waiting, waiting, trials=[trial(0)])
    assert text.count("waiting up to 600 s for a worker: no GPU [sic]") == 1


def test_a_search_in_this_process_has_one_line(monkeypatch):
    assert "workers" not in shown(monkeypatch, trials=[trial(0)])


def test_what_is_trained_is_no_markup(monkeypatch):
    text = io.StringIO()
    monkeypatch.setattr(progress.sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(progress, "Console", lambda stderr: Console(file=text, width=160, force_terminal=True))
    with progress.bar() as bar:
        bar.add_task("train [/x] :cat:", total=1, note="[x]")
    assert "train [/x] :cat:" in text.getvalue() and "[x]" in text.getvalue()
