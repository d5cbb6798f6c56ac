"""How the package is built and what it needs; tools are configured in pyproject.toml."""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
VERSION = re.search(r'^__version__ = "(.+)"$', (HERE / "nasnet_keras/__init__.py").read_text("utf-8"), re.M).group(1)

# Upper bounds are those of what was tried, and are moved by hand: this package relies on some names that Keras and
# KerasTuner do not promise (those that two tests hold, `test_kerastuner.py` and `test_keras_names.py`), and a release
# may change the last digits.
REQUIRES = [
    # The default backend, and what data pipelines and SavedModels are made of. For an NVIDIA GPU
    # install `tensorflow[and-cuda]` beside it. 2.20 is the first release for Python 3.13.
    "tensorflow>=2.20,<2.22",
    "keras>=3.13,<3.16",
    "keras-tuner>=1.4.8,<1.5",
    # KerasTuner's search imports it in every trial on TensorFlow, which no longer brings it since 2.21.
    "tensorboard<2.22",
    "tensorflow-datasets>=4.9.9,<4.10",
    # Its files in that format, which it requires too.
    "array_record<0.9",
    # The channel between a chief and its workers; KerasTuner requires it too.
    "grpcio<2",
    # TensorFlow Datasets imports it and declares it for Python 3.8 only.
    "importlib_resources<8",
    # The embedded data set: 1,797 scanned digits inside the wheel, so that a first search needs no network.
    "scikit-learn<2",
    "numpy<3",
    # The predictor's linear algebra; scikit-learn requires it too.
    "scipy<2",
    "threadpoolctl>=3.2,<4",
    "h5py<4",
    # 11.3 reads AVIF, and tells the size of a turned TIFF before it is decoded.
    "pillow>=11.3,<14",
    "rich<16",
]
EXTRAS = {
    # A local server that speaks TensorFlow Serving's REST.
    "serve": [
        "starlette<2",
        "python-multipart<0.1",
        "uvicorn<0.55",
        "httptools<0.10",
        "uvloop<1",
        "orjson<4",
        "prometheus_client<1",
        "protobuf<8",
    ],
    # Export targets beside the SavedModel.
    "onnx": ["tf2onnx<2", "onnx<2", "onnxruntime<2"],
    "openvino": ["openvino", "scipy"],  # Keras' OpenVINO backend imports scipy and does not declare it.
    # OpenVINO's quantiser, for its int8.
    "nncf": ["openvino", "scipy", "nncf"],
    "litert": ["ai-edge-litert"],
    # Tables in that format.
    "parquet": ["pyarrow<27"],
    # Photographs as telephones store them.
    "heic": ["pillow-heif<2"],
    # A search whose children run on a cluster: `search --engine ray`.
    "ray": ["ray>=2.52,<3"],
    # The second backend: KERAS_BACKEND=jax.
    "jax": ["jax<0.11"],
    # Reads timm's .pth files; its .safetensors need nothing.
    "torch": ["torch<3"],
    "notebooks": ["jupytext", "nbconvert", "ipykernel"],
    # The documentation as a site: `mkdocs build --strict`.
    "docs": ["mkdocs<2", "mkdocs-material<10", "mkdocstrings[python]<2", "mkdocs-jupyter<1"],
    # pydot is what Keras draws models with.
    "test": ["pytest>=8", "pytest-xdist", "hypothesis", "openapi-spec-validator<1", "pydot<5"],
    # A minor release of ruff may format differently, so it moves by hand.
    "lint": ["ruff>=0.17.6,<0.18"],
    # They read what is in deploy/.
    "deploy": ["pyyaml", "dockerfile-parse<3", "kubernetes-validate"],
}
EXTRAS["test"] += EXTRAS["serve"] + EXTRAS["parquet"]
EXTRAS["dev"] = [requirement for extra in ("test", "lint", "deploy", "jax") for requirement in EXTRAS[extra]]

setup(
    name="nasnet-keras",
    version=VERSION,
    description="NASNet for Keras 3: the search, the networks it found, their weights, and the way to a served model",
    long_description=re.sub(r"!\[[^]]*\]\([^)]*\)\n*", "", (HERE / "README.md").read_text("utf-8")),
    long_description_content_type="text/markdown",
    keywords="nasnet pnasnet neural architecture search keras tensorflow image classification transfer learning",
    project_urls={"Paper": "https://arxiv.org/abs/1707.07012"},
    license="Apache-2.0",
    python_requires=">=3.11,<3.14",
    install_requires=REQUIRES,
    extras_require=EXTRAS,
    # The weights live at the top of the repository, where people look for them, and inside the package once installed.
    packages=[*find_packages(include=["nasnet_keras", "nasnet_keras.*"]), "nasnet_keras.weights_files"],
    package_dir={"nasnet_keras.weights_files": "weights"},
    package_data={
        "nasnet_keras": ["weights/*.tsv", "genotypes/*.json", "serving/page/*"],
        "nasnet_keras.weights_files": ["*"],
    },
    entry_points={"console_scripts": ["nasnet-keras = nasnet_keras.cli:main"]},
    classifiers=[
        "Intended Audience :: Science/Research",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
)
