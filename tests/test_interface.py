"""What users rely on is still there: public names, options, documented imports, exit codes."""

import json
import re
import shutil
from pathlib import Path

import pytest
from interface import DOTTED, collect, leaves, refusal, resolve

from nasnet_keras.cli import main

FIXTURES = Path(__file__).parent / "fixtures"
STORED = json.loads((FIXTURES / "interface.json").read_text(encoding="utf-8"))
REFUSED = json.loads((FIXTURES / "exit_codes.json").read_text(encoding="utf-8"))

# What is no longer as it was at commit 93c521a, on purpose: a path as the test prints it, or the beginning of one,
# and the reason. A row that nothing needs any more fails as well.
CHANGED = {
    "commands / search / --final-epochs / help": "for --retrain, too",
    "commands / evaluate / --split": "all, for folders that a model has not seen",
    "commands /  / commands": "data is one more",
    "names / Data / constructor": "what of a folder is left out, notes, and how it was divided",
    "names / load_data": "`strict`, and how directories of earlier versions and of a training were divided",
    "names / Batches / constructor": "their size and range are arguments, where attributes were set from outside",
    "names / export_saved_model": "what is written may be refused before it appears",
    "names / export_target": "precisions, integer input and output, a layout, and the same",
    "names / read_image": "how deep greys were read, and one channel for networks that take one",
    **{
        f"commands / {command} / --image-size / {what}": "it takes HEIGHTxWIDTH, too"
        for command in ("search", "train", "finetune", "evaluate")
        for what in ("type", "help")
    },
    **{
        f"commands / {command} / --data / help": "tables are data as well"
        for command in ("search", "train", "finetune", "evaluate")
    },
    "names / NASNet / constructor": "how greys of more than 8 bits were read, and thresholds, which a network keeps",
    "commands / predict / epilog": "the example is of many images, and writes heat maps",
    "commands / predict / images / help": "folders, patterns and lists are taken as well",
    "commands / evaluate / --output / help": "a second picture lies beside it",
    "commands / search / --controller / ": "a predictor and local search as well",
    "names / NASNetOracle / hold": "`worker`: after a restart one that is still there has its trial again",
    "names / NASNetOracle / reload": "`elsewhere`: no run counts that ended with the process that gave it to others",
    "names / NASNetTuner / search": "arrays and validation data, as KerasTuner takes them",
    "names / evaluate_classes": "`worst`: the most wrong images; `devices`, how many share each batch",
    "names / preprocess_input": "keras.applications' further arguments",
    "names / RECIPES": "what mixes images, where RMSProp begins, warm-up of `imagenet`, accumulation, decoupled decay",
    "names / Recipe / constructor": "likewise",
    "names / fine_tune": "`devices` and `checkpoint_every`",
    **{
        f"commands / train / --{option}": "what is not given depends on the recipe, and the help says so"
        for option in (
            *("repeats", "filters", "stem", "epochs", "recipe", "dropout", "weight-decay", "batch-norm-momentum"),
            "auxiliary-head",
        )
    },
    "commands / finetune / --augmentation / help": "all are named",
    **{f"commands / {command} / --model / help": "files as well" for command in ("evaluate", "predict", "export")},
    "commands / export / --calibration / help": "int8 is not LiteRT's alone",
    "commands / train / --moving-average / help": "0 is for none",
    "commands / finetune / --epochs": "with `--hours` the time decides, and the help says the default",
    "commands / finetune / --recipe / help": "all recipes are named",
    "commands / finetune / --learning-rate / help": "the option is `train`'s",
    "names / ChildSettings / evaluate": "`among`: a screened child is compared with the space that is searched",
    "commands / search / --patience / default": "ten minutes, since many machines are not started at once",
    "commands / search / --patience / help": "it counts for a Ray cluster, too",
    "commands / search / --workers / help": "likewise",
    "commands / search / --parent": "workers of this machine are no commands any more",
    "names / NASNetTuner / constructor": "ten minutes of patience, and `engine`",
    "names / search": "likewise",
    "names / NASNetOracle / constructor": "`tries`",
    "names / search_report": "`updates`, the log of a controller",
    "commands / search / --stem / help": "it says for which images either is",
    "commands / search / --recipe / help": "all recipes are named",
    "commands / train / epilog": "a cifar stem at the images' own size would take hours",
    "commands / finetune / --model / help": "Keras files are taken as well",
    "commands / finetune / --repeats / help": "the default is said",
    "commands / finetune / --filters / help": "likewise",
}

# Commands that are refused in other words now: the command, and the reason. The exit code stays.
OTHER_WORDS = {
    "predict --model finetuned finetuned.json": "AVIF is read as well",
    "search --data missing --directory new": "tables are data as well",
    "search --data photos/red/00.png --directory new": "likewise",
    "search --controller luck --directory new": "a predictor and local search are controllers as well",
    "search --blocks 1 --controller-batch 2 --seed 1 --directory search_finished": "what to do is said",
    "evaluate --model finetuned --data digits": "data may lack some of a model's classes",
    **dict.fromkeys(
        ("finetune --model missing --directory new", "evaluate --model missing", "export --model missing --output new"),
        "a whole model in a .h5 file is one as well",
    ),
}


def difference(before, now):
    """{path: what happened to it} of what is missing or another one; what is new does not count."""
    before, now = leaves(before), leaves(now)
    found = {}
    for path, value in before.items():
        if path not in now:
            found[path] = f"missing, was {value!r}"
        elif now[path] != value:
            found[path] = f"changed\n    was {value!r}\n    is  {now[path]!r}"
    return found


def test_names_and_options_are_still_there():
    before = {part: STORED[part] for part in ("names", "commands")}
    found = difference(before, json.loads(json.dumps(collect())))
    unexplained = {path: what for path, what in found.items() if not path.startswith(tuple(CHANGED))}
    assert not unexplained, "\n" + "\n".join(f"{path}: {what}" for path, what in unexplained.items())
    assert not [row for row in CHANGED if not any(path.startswith(row) for path in found)]


def test_the_comparison_sees_what_is_missing_and_what_changed():
    before = {"names": {"kept": "(a, b=1)", "gone": "(a)", "other": {"method": "(self)"}}}
    now = {"names": {"kept": "(a, b=2)", "other": {"method": "(self)", "more": "(self)"}, "new": "()"}}
    found = difference(before, now)
    assert set(found) == {"names / kept", "names / gone"} and "b=2" in found["names / kept"]


def test_the_interface_names_no_place():
    """Addresses and places would differ from machine to machine, and from one layout of folders to the next."""
    text = json.dumps({part: STORED[part] for part in ("names", "commands")})
    assert not re.findall(r"0x[0-9a-f]{6,}|(?<![\w.])/\w+/\w|nasnet_keras\.\w+", text)


@pytest.mark.parametrize("path", STORED["documented_paths"])
def test_documented_names_are_there_or_say_where_they_went(path):
    try:
        resolve(path)
    except (ImportError, AttributeError) as error:
        elsewhere = {name for name in DOTTED.findall(str(error)) if not path.startswith(name)}
        assert elsewhere, f"{path} is gone, and the error names no other place: {error}"


def test_bad_input_is_answered_as_before(tmp_path, monkeypatch, capsys):
    for name in ("photos", "finetuned", "interrupted_training", "search_finished"):
        shutil.copytree(FIXTURES / name, tmp_path / name)
    shutil.copy(FIXTURES / "finetuned.json", tmp_path)
    monkeypatch.chdir(tmp_path)
    wrong, reworded = [], set()
    for row in REFUSED:
        now = refusal(main, row["words"], capsys.readouterr)
        command = " ".join(row["words"])
        # Python's versions quote an option's choices in different ways.
        was, says = (re.sub(r"['\"]", "", text) for text in (row["says"], now["says"]))
        if was != says:
            reworded.add(command)
        if row["code"] != now["code"] or (was != says and command not in OTHER_WORDS):
            wrong.append(f"{command}\n    was {row['code']} {row['says']}\n    is  {now['code']} {now['says']}")
    assert not wrong, "\n" + "\n".join(wrong)
    assert reworded == set(OTHER_WORDS)
    assert not (tmp_path / "new").exists()
