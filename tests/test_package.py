"""The package as a whole: a light import, all public names, and saved models found in a fresh process."""

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import nasnet_keras
from nasnet_keras import _registration
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
        pytest.param("import nasnet_keras, keras", marks=pytest.mark.long),
        "import keras, nasnet_keras",
        pytest.param("from nasnet_keras import load_data; import keras", marks=pytest.mark.long),
        pytest.param(
            "from nasnet_keras.models.drop_path import DropPath; import keras, nasnet_keras.models.network",
            marks=pytest.mark.long,
        ),
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


def test_every_module_of_old_is_there_or_says_where_it_is():
    """`fixtures/modules.txt` lists the modules as they lay before they got folders."""
    places = _registration.moved()
    old = (Path(__file__).parent / "fixtures/modules.txt").read_text().split()
    assert set(places) <= set(old)
    for name in old:
        if name not in places:
            assert importlib.util.find_spec(name), name
            continue
        package, _, last = name.rpartition(".")
        for line in (f"import {name}", f"from {name} import something", f"from {package} import {last}"):
            with pytest.raises(ModuleNotFoundError) as told:
                exec(line)
            assert str(told.value) == f"{name} is now {places[name]}"


PLACES = {*_registration.moved().values(), *(place for places in _registration.homes().values() for place in places)}


@pytest.mark.parametrize("place", sorted(PLACES))
def test_the_new_place_of_a_module_is_there(place):
    assert importlib.import_module(place).__file__.endswith(place.replace(".", "/") + ".py")


@pytest.mark.parametrize(
    ("folder", "names"),
    [
        ("data", ["Data", "load_data", "normalize"]),
        ("export", ["export_saved_model", "Served"]),
        ("program", ["Program", "Primitive"]),
        ("search.strategies", ["make_strategy", "EvolutionSettings", "RandomSettings", "RegularizedEvolution"]),
        ("training", ["fit", "evaluate", "predict", "reward", "save_model", "ScheduledDropPath"]),
        ("weights", ["load"]),
    ],
)
def test_a_folder_has_the_names_of_the_module_that_was_there(folder, names):
    module = importlib.import_module(f"nasnet_keras.{folder}")
    places = [importlib.import_module(place) for place in _registration.homes()[f"nasnet_keras.{folder}"]]
    for name in names:
        assert any(getattr(module, name) is getattr(place, name, None) for place in places)
    with pytest.raises(AttributeError, match=f"module 'nasnet_keras.{folder}' has no attribute 'no_such_name'"):
        module.no_such_name  # noqa: B018


def test_a_function_that_is_gone_says_what_to_write():
    with pytest.raises(AttributeError, match="training.seed_everything is gone: write keras.utils.set_random_seed"):
        importlib.import_module("nasnet_keras.training").seed_everything(0)


@pytest.mark.parametrize(
    "imports",
    [
        pytest.param("import nasnet_keras, keras", marks=pytest.mark.long),
        "from nasnet_keras import NASNet; import keras",
    ],
)
def test_what_a_compiled_model_holds_is_registered(imports):
    """Keras finds losses and optimisers of a saved model whatever was imported first."""
    names = ["NASNet", "SmoothedCrossentropy", "SGDWithRates"]
    code = f"{imports}\nprint([keras.saving.get_registered_object('nasnet_keras>' + n) is None for n in {names}])"
    assert fresh(code) == "[False, False, False]"


def test_a_folder_brings_its_modules_and_no_others():
    """`from nasnet_keras.training import recipes` asks the folder for the name first; Keras must not come with it."""
    code = "import sys; from nasnet_keras.training import recipes; print(recipes.__name__, 'keras' in sys.modules)"
    assert fresh(code) == "nasnet_keras.training.recipes False"
    code = "from nasnet_keras import training; print(training.devices.join.__module__)"
    assert fresh(code) == "nasnet_keras.training.devices"


def test_no_other_module_is_said_to_have_moved():
    with pytest.raises(ModuleNotFoundError, match="No module named 'nasnet_keras.no_such_module'"):
        importlib.import_module("nasnet_keras.no_such_module")


def test_to_ask_where_keras_is_is_no_import_of_it(monkeypatch):
    """Many packages ask; the classes are registered when it is executed, however often it was asked for."""
    hook, done = _registration._WhenKerasComes(), []
    monkeypatch.setattr(sys, "meta_path", [hook, *sys.meta_path])
    monkeypatch.setattr(_registration, "_register", lambda: done.append("registered"))

    def find_spec(name):
        return SimpleNamespace(loader=SimpleNamespace(exec_module=lambda module: done.append("executed")))

    monkeypatch.setattr(importlib.util, "find_spec", find_spec)
    asked, imported = hook.find_spec("keras"), hook.find_spec("keras")
    assert asked is not imported and hook in sys.meta_path and not done
    imported.loader.exec_module(None)
    assert done == ["executed", "registered"] and hook not in sys.meta_path
    assert hook.find_spec("kerasthing") is None
