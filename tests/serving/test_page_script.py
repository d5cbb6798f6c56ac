"""What the page's script asks a server, and what it shows then, in Node: as CI has no browser."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "nasnet_keras" / "serving" / "page" / "page.js"
# A document of elements that keep what is set, and a server that answers as it is told, by path and by the key.
AROUND = """
const elements = {}, asked = [], waiting = [], kept = {};
const element = (id) => elements[id] ??= {
  id, hidden: id === "key" || id === "where", value: "", textContent: "", focused: 0, listeners: {},
  classList: { toggle() {} }, focus() { this.focused += 1; }, replaceChildren() {},
  addEventListener(kind, listener) { this.listeners[kind] = listener; },
};
globalThis.document = { getElementById: element, addEventListener() {} };
globalThis.location = { href: "http://localhost:8501/" };
const setItem = (name, value) => { kept[name] = value; };
globalThis.sessionStorage = { getItem: (name) => kept[name] ?? null, setItem };
globalThis.setTimeout = (call) => { waiting.push(call); };
globalThis.fetch = async (path, { headers }) => {
  asked.push(path);
  const [status, body] = answers[headers.authorization ? "with" : "without"][path] ?? [401, { error: "the key" }];
  if (!status) throw new TypeError("fetch failed");
  return new Response(typeof body === "string" ? body : JSON.stringify(body), { status });
};
const settled = () => new Promise((done) => setImmediate(() => setImmediate(() => setImmediate(done))));
const seen = () => ({
  model: element("model").textContent, asks: !element("key").hidden, focused: element("secret").focused,
  again: waiting.length, asked: asked.splice(0), where: !element("where").hidden,
});
"""
THEN = """
const found = [];
for (let step = 0; step < 3; step++) await settled();
found.push(seen());
if (answers.with) {
  element("secret").value = "secret";
  await element("key").listeners.submit({ preventDefault() {} });
  found.push(seen());
}
console.log(JSON.stringify(found));
"""
READY = [200, {"status": "ready", "model": "net", "version": 3}]
META = "v1/models/net/metadata"
METADATA = [200, {"metadata": {"signature_def": {"signature_def": {"explain": {}}}}}]
RIGHT = {"healthz": READY, META: METADATA}
NAMED = "Model net, version 3"


def shown(**answers):
    """What is shown after the page was opened, and after a key was typed, if there are answers `with` one."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("needs node")
    script = f"const answers = {json.dumps(answers)};{AROUND}{SCRIPT.read_text(encoding='utf-8')}{THEN}"
    command = [node, "--input-type=module", "-"]
    result = subprocess.run(command, input=script, capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


@pytest.mark.parametrize("opened", [{}, {"healthz": READY}], ids=["all needs the key", "health is open"])
def test_the_key_is_asked_for_once_and_keeps_the_focus(opened):
    first, then = shown(without=opened, **{"with": RIGHT})
    assert (first["model"], first["asks"], first["focused"], first["again"]) == ("", True, 1, 0)
    assert (then["model"], then["asks"], then["again"], then["where"]) == (NAMED, False, 0, True)


def test_a_wrong_key_is_asked_for_again():
    first, then = shown(without={"healthz": READY}, **{"with": {"healthz": READY}})
    assert first["asks"] and then["asks"] and then["focused"] == 2 and then["again"] == 0 and then["model"] == ""


@pytest.mark.parametrize(
    ("answers", "model", "again"),
    [
        (RIGHT, NAMED, 0),
        ({"healthz": [503, {"status": "loading", "model": "net", "version": None}]}, "Model net is loading…", 1),
        ({"healthz": [429, {"error": "too many requests"}]}, "too many requests", 1),
        ({"healthz": READY, META: [503, {"error": "the model net is loading"}]}, "the model net is loading", 1),
        ({"healthz": [502, "<html>bad gateway</html>"]}, "The server answers with 502.", 1),
        ({"healthz": [0, ""]}, "The server does not answer.", 1),
    ],
)
def test_what_else_a_server_answers_is_said(answers, model, again):
    (found,) = shown(without=answers)
    assert (found["model"], found["again"], found["asks"], found["focused"]) == (model, again, False, 0)
