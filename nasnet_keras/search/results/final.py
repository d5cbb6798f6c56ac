"""After the search: the found cell trained longer, beside NASNet-A's and a random one, at the same multiply-adds."""

import json
import logging
from dataclasses import replace

import numpy as np

from nasnet_keras.children.longer_training import finished, has_size, train_longer
from nasnet_keras.files import write_atomically
from nasnet_keras.genotype import Genotype, load_genotype
from nasnet_keras.search.directory import FIGURES, SearchDirectory
from nasnet_keras.search.results.preference import Preference
from nasnet_keras.search.results.publication import ranked, renew_report

logger = logging.getLogger(__name__)

SAME_COST = 0.03  # of NASNet-A's multiply-adds, within which networks are compared


def compare(result, data, child, space, epochs, seed, progress):
    """Train three networks alike and measure them on the test images, which the search never saw.

    Each lies in `<directory>/final/<network>` as a model; a finished one is not trained again, and a finished
    comparison stands as it is. One that was interrupted goes on: its networks are not compared with those of an earlier
    comparison, which may have had another size.

    Args:
        result: a `SearchResult`.
        data: the search's `Data`.
        child: the search's `ChildSettings`, with the filters that `alike` gives each network: a cell that costs twice
            as much would have to be better.
        space: the `SearchSpace` that the random cell is drawn from.
        epochs: epochs for each.
        seed: seed of the random cell and of the trainings.
        progress: called with a title and the epochs, a context manager that gives a Keras callback.

    Returns:
        One dict a network: `network`, `digest`, `parameters`, `multiply_adds`, `accuracy` (on the test split),
        `epochs`, `filters`, `reference` (NASNet-A's filters, whose multiply-adds all have). The accuracy of one whose
        loss became no number, which is logged, is None.
    """
    random = space.decode(space.random(np.random.default_rng([seed, 0xF1])))
    networks = {"found": result.best, "nasnet_a": load_genotype("nasnet_a"), "random": random}
    directory = SearchDirectory(result.directory)
    rows = {name: finished(genotype, epochs, directory.final / name) for name, genotype in networks.items()}
    if None in rows.values() or not _are_one(rows, networks, data, child):
        settings = alike(networks, "nasnet_a", data, child)
        further = ["test", "validation"], settings["nasnet_a"].filters
        for name, sized in settings.items():
            place = directory.final / name
            rows[name] = _trained(name, name, networks[name], data, sized, epochs, seed, place, progress, *further)
    renew_report(result.directory)  # the search may have been made longer meanwhile
    return list(rows.values())


def _trained(called, name, genotype, data, child, epochs, seed, place, progress, parts, reference=None):
    """What `train_longer` gives; where a network diverges that is logged, and its accuracies are None."""
    try:
        return train_longer(name, genotype, data, child, epochs, seed, place, progress, parts, reference)
    except FloatingPointError as error:
        stays = f"; what lies in {place} is of an earlier training" if (place / "model.keras").exists() else ""
        logger.warning("%s is left out: %s%s", called, str(error).partition(": ")[0], stays)  # nothing else can be done
    if reference is not None:  # the report would show an earlier comparison's beside the others
        (place / FIGURES).unlink(missing_ok=True)
    row = {"network": name, "digest": genotype.digest, "epochs": epochs, "filters": child.filters}
    row |= {"measure": "mean_average_precision"} if data.several else {}
    row |= child.sizes(genotype, data) | dict.fromkeys(("accuracy", "validation_accuracy"))
    return row if reference is None else {**row, "reference": reference}


def _are_one(rows, networks, data, child):
    """Whether finished trainings, {name: row}, are of one comparison, and not of two, the later one interrupted."""
    references = {row.get("reference") for row in rows.values()}
    if references != {None}:
        return len(references) == 1
    # Of an earlier version: all with the child's filters, or as near to NASNet-A's multiply-adds as there are filters.
    cost = rows["nasnet_a"]["multiply_adds"]
    if all("filters" not in row and has_size(row, networks[name], data, child) for name, row in rows.items()):
        return True
    others = {name: genotype for name, genotype in networks.items() if name != "nasnet_a"}
    return all(has_size(rows[name], one, data, child.at_cost(one, data, cost)) for name, one in others.items())


def alike(networks, reference, data, child):
    """The settings with which networks have the same multiply-adds, within `SAME_COST`, where there are such.

    Filters are whole numbers, so that where they are few the next number may be a quarter dearer. The reference has the
    child's, or as many more, up to twice as many, as it takes for the others to come near enough. If that is not to be
    had, they are as near as they come.

    Args:
        networks: {name: `Genotype`}.
        reference: the name of the one whose multiply-adds the others get.
        data: a `Data`.
        child: `ChildSettings`.

    Returns:
        {name: `ChildSettings`}.
    """
    nearest, found = None, None
    for filters in range(child.filters, 2 * child.filters + 1):
        first = replace(child, filters=filters)
        cost = first.sizes(networks[reference], data)["multiply_adds"]
        sized = {name: first.at_cost(genotype, data, cost) for name, genotype in networks.items()}
        costs = [sized[name].sizes(genotype, data)["multiply_adds"] for name, genotype in networks.items()]
        distance = max(abs(other / cost - 1) for other in costs)
        if nearest is None or distance < nearest:
            nearest, found = distance, sized
        if nearest <= SAME_COST:
            break
    return found


def retrain(result, data, child, count, epochs, seed, progress):
    """Train the best cells of a search longer and rank them anew, as Zoph et al. 2018 do with their best 250.

    They are ranked by the validation images; the test images stay unseen. The winner becomes `best_genotype.json`, the
    cell in the report, and what `publication.best_genotype` answers, which says for how long. Networks beyond `count`
    that an earlier call has trained alike take part, for the winner may be one of them; they are not trained again.
    Where `prefer` is `within`, those beyond are dearer, and take no part. One whose loss becomes no number is logged
    and comes after all others in `retrained.json`, whose rows also keep the rule, `cost` and `prefer`.

    Args:
        result: a `SearchResult`.
        data, child, epochs, seed, progress: see `compare`.
        count: how many different networks are trained, fewer where there are not so many.

    Returns:
        One dict a network that was trained, the best first: `network` (its trial's id), `genotype` (a `Genotype`),
        `reward` (in the search), `digest`, `parameters`, `multiply_adds`, `validation_accuracy`, `epochs`, `filters`.
    """
    different, rows, directory = {}, [], SearchDirectory(result.directory)
    preference = Preference.of(result.directory)
    rule = {"cost": preference.cost, "prefer": preference.prefer}
    for trial in ranked(result.directory, result.trials):
        different.setdefault(trial["canonical"], trial)
    for number, trial in enumerate(different.values()):
        genotype = Genotype.from_dict(trial["genotype"])
        place = directory.retrained_models / trial["trial_id"]
        if number >= count:
            row = None if preference.is_by_cost else finished(genotype, epochs, place)
            if row is None or not has_size(row, genotype, data, child):
                continue
        trial_id, further = trial["trial_id"], (epochs, seed, place, progress, ["validation"])
        row = _trained(f"trial {trial_id}", trial_id, genotype, data, child, *further)
        row.pop("accuracy", None)  # on the test images, in what an earlier version trained
        rows.append({**row, "genotype": genotype, "reward": trial["reward"]})
    ended = [row for row in rows if row["validation_accuracy"] is not None]
    if not ended:
        return []  # what an earlier call has found stands
    ended.sort(key=lambda row: -row["validation_accuracy"])
    lost = [row for row in rows if row not in ended]  # they took part: the reward alone makes none of them the best
    kept = [{key: value for key, value in row.items() if key != "genotype"} | rule for row in (*ended, *lost)]
    write_atomically(directory.retrained, json.dumps(kept, indent=1).encode())
    renew_report(result.directory)
    return ended
