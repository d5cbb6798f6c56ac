"""What is in `deploy/` is read by its own parsers, and what it starts by the command line's."""

import configparser
import json
import re
import shlex
import shutil
import subprocess

import pytest
from house import ROOT

from nasnet_keras.cli import parser
from nasnet_keras.serving.service import HEALTH, METRICS

DEPLOY = ROOT / "deploy"


def started(words):
    """The options of a `nasnet-keras serve …`; where it is wrong, the parser ends the test."""
    assert words[0].endswith("nasnet-keras")
    options = parser().parse_args(words[1:])
    assert options.command == "serve" and options.key_file and options.host == "0.0.0.0"
    return options


def documents(name):
    yaml = pytest.importorskip("yaml")
    return list(yaml.safe_load_all((DEPLOY / name).read_text()))


@pytest.fixture
def image():
    """What the Dockerfile says: {instruction: JSON, or text}."""
    dockerfile = pytest.importorskip("dockerfile_parse").DockerfileParser(str(DEPLOY / "Dockerfile"))
    found = {line["instruction"]: line["value"] for line in dockerfile.structure if line["instruction"] != "COMMENT"}
    assert next(iter(found)) == "FROM" and dockerfile.baseimage == "python:3.13-slim"
    return found | {name: json.loads(found[name]) for name in ("ENTRYPOINT", "CMD")}


def test_the_image(image):
    options = started(image["ENTRYPOINT"] + image["CMD"])
    assert options.model == "/models/net" and options.open == ["health"]
    probe = json.loads(image["HEALTHCHECK"].partition("CMD ")[2])
    compile(probe[2], "probe", "exec")
    assert re.search(r":8501(/\w+)", probe[2])[1] in HEALTH and options.port == int(image["EXPOSE"])
    kept = [line[1:] for line in (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines() if line[0] == "!"]
    assert all((ROOT / name).exists() for name in kept)


def test_compose(image):
    (compose,) = documents("compose.yaml")
    serve, other = compose["services"]["serve"], compose["services"]["tensorflow-serving"]
    assert (DEPLOY / serve["build"]["context"] / serve["build"]["dockerfile"]).is_file()
    options = started(image["ENTRYPOINT"] + image["CMD"])
    assert options.key_file == f"/run/secrets/{serve['secrets'][0]}" and serve["secrets"][0] in compose["secrets"]
    assert serve["ports"] == [f"8501:{options.port}"] and serve["volumes"][0].split(":")[1] == options.model
    assert all(port.startswith("127.0.0.1:") for port in other["ports"])  # it asks for no key


def test_the_unit(tmp_path):
    text = (DEPLOY / "nasnet-serve.service").read_text()
    unit = configparser.RawConfigParser(strict=False, comment_prefixes="#", delimiters="=")
    unit.optionxform = str
    unit.read_string(text.replace("\\\n", ""))
    options = started(shlex.split(unit["Service"]["ExecStart"]))
    credentials = re.findall(r"^LoadCredential=([\w-]+):", text, re.M)
    for path in (options.key_file, options.certificate, options.private_key):
        assert path.removeprefix("${CREDENTIALS_DIRECTORY}/") in credentials
    if not shutil.which("systemd-analyze"):
        pytest.skip("needs systemd-analyze")
    program = unit["Service"]["ExecStart"].split()[0]
    (tmp_path / "nasnet-serve.service").write_text(
        text.replace(program, shutil.which("true"))
    )  # which is not installed here
    done = subprocess.run(
        ["systemd-analyze", "verify", str(tmp_path / "nasnet-serve.service")], capture_output=True, text=True
    )
    assert done.returncode == 0 and "nasnet-serve" not in done.stderr, done.stderr


@pytest.mark.parametrize("name", ["kubernetes.yaml", "kubernetes-tf-serving.yaml"])
def test_the_manifests(name, image):
    validate = pytest.importorskip("kubernetes_validate")
    deployment, service = documents(name)
    for document in (deployment, service):
        validate.validate(document, validate.latest_version(), strict=True)
    pod = deployment["spec"]["template"]
    (container,) = pod["spec"]["containers"]
    assert service["spec"]["selector"].items() <= pod["metadata"]["labels"].items()
    assert deployment["spec"]["selector"]["matchLabels"] == pod["metadata"]["labels"]
    ports = {port["name"] for port in container["ports"]}
    assert {port["targetPort"] for port in service["spec"]["ports"]} == ports
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert {volume["name"] for volume in pod["spec"]["volumes"]} == set(mounts)
    if name != "kubernetes.yaml":
        return
    options = started(image["ENTRYPOINT"] + container["args"])
    assert options.key_file == f"{mounts['key']}/key" and options.model == mounts["models"]
    probes = [container[f"{kind}Probe"]["httpGet"]["path"] for kind in ("startup", "readiness", "liveness")]
    assert set(probes) <= set(HEALTH) and options.open == ["health", "metrics"] and "/metrics" in METRICS
    text = (DEPLOY / name).read_text()
    secret = next(volume["secret"] for volume in pod["spec"]["volumes"] if volume["name"] == "key")
    assert f"kubectl create secret generic {secret['secretName']} --from-literal=key=" in text
