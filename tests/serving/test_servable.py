"""Versions of a model: what is loaded, what takes over, and what is ignored."""

import asyncio
import os
import re
import shutil

import numpy as np
import pytest
import tensorflow as tf
from checks import randomize
from house import ROOT
from images_of_all_kinds import encode, noise

from nasnet_keras.export.saved_model import export_saved_model
from nasnet_keras.export.serving_files import read_warmup
from nasnet_keras.models.network import NASNet
from nasnet_keras.serving.rest import Refusal, Spec
from nasnet_keras.serving.servable import Servable, Versions


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    model = NASNet("tiny", repeats=1, filters=4, stem="cifar", input_shape=(8, 6, 3), classes=3)
    randomize(model)
    return export_saved_model(model, tmp_path_factory.mktemp("m") / "net", class_names=("a", "b", "c"), top=2)


@pytest.fixture
def folder(exported, tmp_path):
    """A model with the versions 1 and 3."""
    for version in ("1", "3"):
        shutil.copytree(exported, tmp_path / version)
    (tmp_path / "models.config").touch()
    (tmp_path / "12").mkdir()
    return tmp_path


def test_rows_become_a_batch_and_rows_again(exported, rng):
    servable = Servable(exported, sizes=(1, 4))
    assert servable.version == 1 and servable.reading == {"image_size": (8, 6)}
    assert servable.signatures["serving_default"] == {"image": Spec("float32", (8, 6, 3))}
    assert servable.signatures["image_bytes"] == {"image_bytes": Spec("string", ())}
    images = [noise(rng, 8, 6) for _ in range(3)]
    raw = servable.runs["serving_default"]([{"image": np.float32(image)} for image in images])
    encoded = servable.runs["image_bytes"]([{"image_bytes": encode(image, "PNG")} for image in images])
    for index, (one, other) in enumerate(zip(raw, encoded, strict=True)):
        assert one[1] == other[1] == index and one[0]["top_classes"].shape == (3, 2)
        np.testing.assert_allclose(one[0]["probabilities"], other[0]["probabilities"], atol=1e-6)


def test_what_a_model_of_others_keeps_under_these_names_is_its_own(tmp_path):
    module = tf.Module()
    module.image_size, module.grey_range = tf.Variable(224), tf.Variable([0.0, 1.0, 2.0])
    module.run = tf.function(lambda x: {"y": x}, input_signature=[tf.TensorSpec((None, 2), tf.float32, "x")])
    tf.saved_model.save(module, str(tmp_path / "1"), signatures={"serving_default": module.run})
    assert Servable(tmp_path / "1").reading == {}


def test_what_cannot_be_decoded_is_refused(exported, rng):
    run = Servable(exported).runs["image_bytes"]
    for kind, words in (("JPEG", "Invalid JPEG data"), ("PNG", "Invalid PNG data"), ("BMP", "Input size should match")):
        with pytest.raises(Refusal, match=f"^[^\n]*{words}[^\n]*$") as caught:
            run([{"image_bytes": encode(noise(rng, 40, 40), kind)[:-500]}])
        assert caught.value.code == 400


def test_the_warmup_is_what_export_wrote(exported):
    requests = dict(read_warmup(exported / "assets.extra/tf_serving_warmup_requests"))
    assert requests["serving_default"]["image"].shape == (1, 8, 6, 3)
    assert requests["image_bytes"]["image_bytes"][0].startswith(b"\x89PNG")


def test_the_newest_version_that_loads(folder, caplog):
    caplog.set_level("INFO")
    versions = Versions(folder)
    (folder / "7").mkdir()
    (folder / "7" / "saved_model.pb").write_bytes(b"broken")

    def look():
        asyncio.run(versions.refresh())
        return versions.current.version

    assert look() == 3 and list(versions.broken) == [7]
    assert caplog.text.count("version 7 cannot be served") == 1
    first = versions.current
    assert look() == 3 and versions.current is first  # nothing new, and the broken one is not tried again
    assert caplog.text.count("version 7 cannot be served") == 1
    shutil.copytree(folder / "1", folder / "7", dirs_exist_ok=True)  # repaired
    assert look() == 7 and not versions.broken
    shutil.rmtree(folder / "7")  # taken back
    assert look() == 3
    for version in "13":
        shutil.rmtree(folder / version)
    assert look() == 3  # what is served stays
    assert "version 3 is served, in place of 7" in caplog.text


def test_a_version_that_is_exported_anew_under_its_number(tmp_path, caplog, monkeypatch):
    class Read:
        def __init__(self, folder, sizes):
            if (folder / "saved_model.pb").read_bytes() == b"broken":
                raise ValueError("no good")
            self.version = int(folder.name)

    def export(version, content):
        (tmp_path / version).mkdir(exist_ok=True)
        (tmp_path / version / "saved_model.pb").write_bytes(content)

    def look():
        asyncio.run(versions.refresh())
        return versions.current

    monkeypatch.setattr("nasnet_keras.serving.servable.Servable", Read)
    caplog.set_level("INFO")
    export("1", b"old")
    export("3", b"old")
    versions = Versions(tmp_path)
    first = look()
    assert look() is first
    shutil.rmtree(tmp_path / "3")
    export("3", b"newer")
    second = look()
    assert second is not first and second.version == 3 and look() is second
    assert "version 3 is served, in place of 3" in caplog.text
    export("3", b"broken")
    assert look() is look() is second and list(versions.broken) == [3]  # what is in memory is good
    assert caplog.text.count("version 3 cannot be served") == 1
    shutil.rmtree(tmp_path / "3")
    assert look().version == 1 and not versions.broken  # nor is it listed any longer


def test_folders_that_hold_no_model(tmp_path):
    for path in (tmp_path / "missing", tmp_path):
        with pytest.raises(ValueError, match="`model` must .*Received"):
            Versions(path)
    other = tf.Module()
    other.f = tf.function(lambda x: {"y": x + 1}, input_signature=[tf.TensorSpec((2,), tf.float32, name="x")])
    tf.saved_model.save(other, str(tmp_path / "1"), signatures=other.f)
    with pytest.raises(ValueError, match="input x must be \\[batch"):
        Servable(tmp_path / "1")


def test_the_official_messages_read_the_metadata(exported):
    messages = pytest.importorskip("tensorflow_serving.apis.get_model_metadata_pb2")
    from google.protobuf.json_format import ParseDict

    servable = Servable(exported)
    signatures = ParseDict({"signature_def": servable.metadata}, messages.SignatureDefMap()).signature_def
    assert {"serving_default", "image_bytes"} <= set(signatures)
    for name, specs in servable.signatures.items():
        assert signatures[name].method_name == "tensorflow/serving/predict"
        assert set(signatures[name].inputs) == set(specs)
        assert set(signatures[name].outputs) == {"probabilities", "top_classes", "top_scores"}
        for key, spec in specs.items():
            shape = [side.size for side in signatures[name].inputs[key].tensor_shape.dim]
            assert shape == [-1, *spec.shape]
            assert tf.dtypes.as_dtype(signatures[name].inputs[key].dtype).name == spec.kind


def test_the_official_messages_read_the_configuration(exported):
    server = pytest.importorskip("tensorflow_serving.config.model_server_config_pb2")
    from google.protobuf.text_format import Parse

    text = (exported.parent / "models.config").read_text()
    (one,) = Parse(text, server.ModelServerConfig()).model_config_list.config
    assert (one.name, one.base_path, one.model_platform) == ("net", "/models/net", "tensorflow")
    page = (ROOT / "docs" / "serving.md").read_text(encoding="utf-8")
    documented = re.search(r"^model_config_list \{.*?^\}", page, re.S | re.M)[0]
    net, birds = Parse(documented, server.ModelServerConfig()).model_config_list.config
    assert dict(net.version_labels) == {"stable": 1, "canary": 2} and birds.name == "birds"
    assert list(net.model_version_policy.specific.versions) == [1, 2]


@pytest.mark.long
def test_memory_stays_flat_over_takeovers(folder):
    versions, sizes = Versions(folder), []
    for version in range(10, 14):
        (folder / ("3" if version == 10 else str(version - 1))).rename(folder / str(version))
        asyncio.run(versions.refresh())
        assert versions.current.version == version
        with open("/proc/self/statm") as file:
            sizes.append(int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6)
    assert sizes[-1] - sizes[1] < 60, sizes
