"""What options say beyond their parsing."""

import pytest

from nasnet_keras.cli import main
from nasnet_keras.commands.options import remark_on_stem


def test_a_stem_for_small_images_is_remarked_on_where_images_are_large(capsys):
    for stem, side in (("cifar", 32), ("cifar", 96), ("imagenet", 224)):
        remark_on_stem(stem, (side, side, 3))
    assert not capsys.readouterr().err
    remark_on_stem("cifar", (224, 300, 3))
    told = capsys.readouterr().err
    assert "cells at 224x300 pixels" in told and "--stem imagenet or a smaller --image-size" in told


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["predict", "--model", "m", "a.png", "--class-weights=balanced", "--grey"],
            "predict: unrecognized arguments: --class-weights=balanced --grey; --class-weights is an option of "
            "finetune. See nasnet-keras predict --help",
        ),
        (
            ["plot", "a", "--remat"],
            "plot: unrecognized arguments: --remat; --remat is an option of train and finetune. "
            "See nasnet-keras plot --help",
        ),
        (["data", "a", "b"], "data: unrecognized arguments: b. See nasnet-keras data --help"),
        (["data", "a", "images"], "data: unrecognized arguments: images. See nasnet-keras data --help"),
        (["--remat", "list"], "unrecognized arguments: --remat"),
    ],
)
def test_an_option_that_a_command_lacks_is_told_with_those_that_have_it(words, said, capsys):
    with pytest.raises(SystemExit) as error:
        main(words)
    assert error.value.code == 2 and said in capsys.readouterr().err
