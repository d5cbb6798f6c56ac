"""The package as a whole: a light import, all public names, and saved models found in a fresh process."""

import subprocess
import sys

import numpy as np
import pytest

import nasnet_keras
from nasnet_keras.models.network import NASNet


def fresh(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_importing_starts_no_framework():
    code = "import nasnet_keras, sys; print([name for name in ('keras', 'tensorflow', 'jax') if name in sys.modules])"
    assert fresh(code) == "[]"


def test_every_public_name_is_there():
    for name in nasnet_keras.__all__:
        assert getattr(nasnet_keras, name) is not None
    with pytest.raises(AttributeError, match="no_such_name"):
        nasnet_keras.no_such_name  # noqa: B018


def test_search_is_a_function_and_a_package():
    import nasnet_keras.search.space
    from nasnet_keras import search

    assert callable(search) and search.space.SearchSpace is nasnet_keras.SearchSpace
    with pytest.raises(ValueError, match="`max_trials`"):
        search("digits", max_trials=0)


@pytest.mark.parametrize(
    "imports",
    [
        "import nasnet_keras, keras",
        "import keras, nasnet_keras",
        "from nasnet_keras import load_data; import keras",
        "from nasnet_keras.models.drop_path import DropPath; import keras, nasnet_keras.models.network",
    ],
)
def test_saved_models_load_whatever_is_imported_first(imports, tmp_path):
    model = NASNet("tiny", repeats=(1, 1), filters=4, stem="cifar", input_shape=(8, 8, 3), classes=2, drop_path=0.1)
    model.save(tmp_path / "model.keras")
    image = np.linspace(-1, 1, 192, dtype="float32").reshape(1, 8, 8, 3)
    expected = np.asarray(model(image))
    np.save(tmp_path / "image.npy", image)
    code = (
        f"{imports}\nimport numpy as np\nmodel = keras.saving.load_model({str(tmp_path / 'model.keras')!r})\n"
        f"print(np.asarray(model(np.load({str(tmp_path / 'image.npy')!r}))).tolist())"
    )
    np.testing.assert_allclose(np.array(eval(fresh(code).splitlines()[-1])), expected, atol=1e-5)
