"""What options say beyond their parsing."""

from nasnet_keras.commands.options import remark_on_stem


def test_a_stem_for_small_images_is_remarked_on_where_images_are_large(capsys):
    for stem, side in (("cifar", 32), ("cifar", 96), ("imagenet", 224)):
        remark_on_stem(stem, (side, side, 3))
    assert not capsys.readouterr().err
    remark_on_stem("cifar", (224, 300, 3))
    told = capsys.readouterr().err
    assert "cells at 224x300 pixels" in told and "--stem imagenet or a smaller --image-size" in told
