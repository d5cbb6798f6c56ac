"""The options of the command `search`, in groups."""

from argparse import SUPPRESS


def add_search(command, data, network):
    """Add the command.

    Args:
        command: function that makes a subcommand's parser from its name, a line of help and an example.
        data, network: functions that add the options for data and for a network's size.
    """
    search = command(
        "search",
        "search for cells with the controller, then train the best one",
        "search --data digits --max-trials 60 --directory found",
    )
    data(search, "digits")
    search.add_argument("--max-trials", type=int, default=60, help="children in all, earlier runs included")
    search.add_argument("--hours", type=float, help="begin no child after so many hours of this run")
    search.add_argument("--directory", default="search", help="where the search lives; run again to go on")
    search.add_argument("--controller", choices=("rl", "random", "evolution"), default="rl", help="who proposes")
    # The paper's 20 and 0.00035 are for 20,000 children; with some dozens nothing would be learnt.
    search.add_argument("--controller-batch", type=int, default=4, help="rewards per policy update (the paper: 20)")
    search.add_argument(
        "--controller-rate", type=float, default=0.006, help="the policy's learning rate (the paper: 0.00035)"
    )
    search.add_argument("--controller-entropy", type=float, default=0.00001, help="weight of its entropy")
    search.add_argument(
        "--controller-baseline", type=float, default=0.95, help="decay of its moving average of rewards"
    )
    search.add_argument("--blocks", type=int, default=5, help="blocks in a cell")
    network(search, repeats=1, filters=8)
    search.add_argument("--epochs", type=int, default=1, help="epochs that a child trains for")
    search.add_argument("--recipe", default="micro", help="how a child is trained")
    search.add_argument("--batch-size", type=int, help="images a step (default: the recipe's)")
    search.add_argument(
        "--evaluation",
        choices=("independent", "shared"),
        default="independent",
        help="shared: children go on from each other's weights (ENAS); fast, and less certain",
    )
    search.add_argument("--shared-steps", type=int, default=10, help="steps of a child with shared weights")
    search.add_argument("--final-epochs", type=int, default=10, help="epochs for the networks compared at the end")
    search.add_argument("--no-final", action="store_true", help="stop after the last trial")

    rules = search.add_argument_group("what a child is worth")
    rules.add_argument("--no-replay", action="store_true", help="train networks again that were seen before")
    rules.add_argument("--max-parameters", type=int, help="children above fail before they are trained")
    rules.add_argument("--max-multiply-adds", type=int, help="likewise")
    rules.add_argument(
        "--screen", choices=("parameters", "gradient_norm", "naswot"), help="score children before they are trained"
    )
    rules.add_argument("--screen-share", type=float, default=0.3, help="share of random cells that a child has to beat")
    rules.add_argument("--target-parameters", type=int, help="reward × (parameters / target) ^ exponent (MnasNet)")
    rules.add_argument("--target-multiply-adds", type=int, help="the same with multiply-adds")
    rules.add_argument("--target-exponent", type=float, default=-0.07, help="of the target")
    rules.add_argument("--failure-reward", type=float, help="what the controller is told of a failed child")
    rules.add_argument("--median-stop", action="store_true", help="end children that do worse than half of the others")

    reuse = search.add_argument_group("before and after")
    reuse.add_argument("--start-from", metavar="DIR", help="another search, whose trials are learnt from first")
    reuse.add_argument(
        "--retrain", type=int, default=0, metavar="K", help="train the K best longer, and take their best"
    )
    reuse.add_argument("--tensorboard", action="store_true", help="write scalars and HParams to DIR/tensorboard")

    team = search.add_argument_group("many workers", "the channel has no authentication: see docs/search.md")
    team.add_argument("--workers", type=int, default=0, metavar="N", help="start so many on this machine")
    team.add_argument("--role", choices=("chief", "worker"), help="part of a search over several machines")
    team.add_argument("--address", default="127.0.0.1:7877", metavar="HOST:PORT", help="the chief's")
    team.add_argument("--name", help="the worker's (default: from its host and process)")
    team.add_argument("--lease", type=float, default=120.0, help="seconds until a silent worker has lost its trial")
    team.add_argument("--patience", type=float, default=20.0, help="seconds that a worker waits for a chief")
    team.add_argument("--parent", type=int, help=SUPPRESS)  # the chief that started it
