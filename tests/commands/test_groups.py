"""The help of every command: what most people set first, then the rest by what it decides, an example at the end."""

import re
import shlex
from importlib import import_module

import pytest

from nasnet_keras.cli import COMMANDS, parser
from nasnet_keras.commands.groups import EVERYDAY, FIRST, GROUPS, NOTES, Options, arrange

PARSERS = next(action for action in parser()._actions if action.dest == "command").choices


def name_of(action):
    """As the tables have it: of `-h, --help` the second, of `--auxiliary-head, --no-auxiliary-head` the first."""
    return next((name[2:] for name in action.option_strings if name.startswith("--")), action.dest)


def sections(name):
    """{title: names of its options} of a command's help, in its order."""
    groups = [group for group in PARSERS[name]._action_groups if group._group_actions]
    return {group.title: [name_of(action) for action in group._group_actions] for group in groups}


@pytest.mark.parametrize("name", COMMANDS)
def test_help_comes_in_groups_the_everyday_options_first(name):
    found = sections(name)
    titles = [FIRST, *GROUPS]
    assert list(found) == [title for title in titles if title in found] and found.keys() <= set(titles)
    everyday = EVERYDAY[name].split()
    assert len(everyday) <= 10 and found.get(FIRST, []) == everyday
    assert {name_of(action) for action in PARSERS[name]._actions if action.required} <= set(everyday)
    text = PARSERS[name].format_help()
    heads = re.findall(r"^(\S.*):$", text, re.M)
    example = import_module(f"nasnet_keras.commands.{name}").EXAMPLE
    assert heads == list(found) and " ".join(text.split()).endswith(f"example: nasnet-keras {example}")
    assert len(text.split(FIRST)[0].split("\n\n")[0].splitlines()) <= 3  # the usage names what must be given alone
    for title in found.keys() & NOTES.keys():
        assert NOTES[title] in text


@pytest.mark.parametrize("name", COMMANDS)
def test_the_example_is_a_command(name):
    words = shlex.split(import_module(f"nasnet_keras.commands.{name}").EXAMPLE)
    assert parser().parse_args(words).command == name


def test_the_tables_name_nothing_that_no_command_has():
    known = {name: {option for options in sections(name).values() for option in options} for name in COMMANDS}
    assert set(EVERYDAY) == set(COMMANDS) and NOTES.keys() <= GROUPS.keys()
    for name, everyday in EVERYDAY.items():
        assert set(everyday.split()) <= known[name]
    grouped = [option for options in GROUPS.values() for option in options.split()]
    assert set(grouped) <= set().union(*known.values()) and len(grouped) == len(set(grouped))


def test_an_option_without_a_place_is_noticed():
    options = Options()
    options.add_argument("--colour")
    with pytest.raises(LookupError, match="`GROUPS` must have a place for colour"):
        arrange(parser(), "list", options)
