"""The order of every command's help: what most people set comes first, then the rest by what it decides.

This is the only place that knows groups; a command's file says what its options are, in any order.
"""

FIRST = "what most people set"
# At most ten each.
EVERYDAY = {
    "search": "data max-trials directory hours controller workers blocks epochs final-epochs seed",
    "train": "genotype data directory epochs hours recipe repeats filters image-size devices",
    "finetune": "model genotype weights data directory epochs hours image-size patience devices",
    "evaluate": "model data split output worst tta limit devices",
    "predict": "images model top threshold output explain",
    "export": "model output format version explain precision calibration evaluate max-drop",
    "serve": "model host port name log",
    "plot": "genotype output",
    "report": "directory tensorboard",
    "data": "data check near output strict validation test",
    "list": "",
}
# For every command those that it has, in this order.
GROUPS = {
    "the network": "genotype repeats filters stem drop-path dropout weight-decay batch-norm-momentum auxiliary-head "
    "bounded-activations",
    "what is kept and what learns": "head-epochs head-views unfreeze rate-factor layer-decay batch-norm class-weights",
    "how it learns": "recipe batch-size learning-rate optimizer nesterov decoupled-decay warmup-epochs moving-average "
    "gradient-accumulation label-smoothing sizes evaluation shared-steps",
    "how images are changed while it learns": "augmentation cutout rand-augment erasing mixup cutmix",
    "which images, and how they are divided": "image-size limit validation test strict seed grey-range",
    "a table of images and labels": "file-column label-column split-column separator file-root outside",
    "devices, memory and interruptions": "dtype devices hosts mixing remat checkpoint-every",
    "who proposes cells": "controller-batch controller-rate controller-entropy controller-baseline",
    "what a child is worth": "cost prefer failure-reward median-stop no-replay max-parameters max-multiply-adds "
    "target-parameters target-multiply-adds target-exponent screen screen-share",
    "before and after a search": "start-from try retrain no-final",
    "where children run": "engine child-cpus child-gpus patience",
    "many machines without Ray": "role address name lease secret",
    "in a SavedModel": "top image-dtype",
    "in another runtime's file": "batch io layout",
    "who may ask": "key-file open certificate private-key host-name",
    "how much at a time": "max-batch max-queue max-body max-pixels timeout",
    "what is printed and kept": "json matrix tensorboard traceback help",
}
NOTES = {
    "a table of images and labels": "without these, by the names of its columns",
    "where children run": "see docs/search.md for one machine and for clusters",
    "many machines without Ray": "superseded by --engine ray: see docs/search.md",
    "who may ask": "as `Authorization: Bearer KEY`; see docs/serving.md",
}


class Options:
    """A command's options, until `arrange` puts them in their order; it takes what argparse's parsers take."""

    def __init__(self):
        self.wanted, self.defaults = {}, {}

    def add_argument(self, *names, **settings):
        """Take an option; its last name counts in the tables."""
        self.wanted[names[-1].lstrip("-")] = names, settings

    def set_defaults(self, **defaults):
        """Take other defaults."""
        self.defaults |= defaults


def arrange(parser, command, options):
    """Add a command's `Options` to its parser, in groups, and say in the usage what must be given."""
    parser.usage = _usage(options)
    left = dict(options.wanted)
    for title, names in {FIRST: EVERYDAY[command], **GROUPS}.items():
        if own := [name for name in names.split() if name in left]:
            group = parser.add_argument_group(title, NOTES.get(title))
            for name in own:
                flags, settings = left.pop(name)
                group.add_argument(*flags, **settings)
    if left:
        raise LookupError(f"`GROUPS` must have a place for {', '.join(left)}")
    parser.set_defaults(**options.defaults)


def _usage(options):
    given, bare = [], []
    for name, (flags, settings) in options.wanted.items():
        shown = settings.get("metavar") or name.upper().replace("-", "_")
        if not flags[-1].startswith("-"):
            bare += [shown, f"[{shown} …]"] if settings.get("nargs") == "+" else [shown]
        elif settings.get("required"):
            given += [flags[-1], shown]
    return " ".join(["%(prog)s", *given, "[options]", *bare])
