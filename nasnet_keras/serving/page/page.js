const get = (id) => document.getElementById(id);
// What the server reads as well as a browser, or better: 16 bits and colours of wide screens come to it as they are.
const AS_IT_IS = ["jpeg", "png", "gif", "bmp", "webp", "avif", "tiff"].map((kind) => `image/${kind}`);
const MOST = 24_000_000; // bytes of a file that goes as it is: in base64 the 32 MiB that a body may have
const SMALLER = ["image/jpeg", "image/webp"]; // what is made smaller where the server finds it too large, which is said
const SIDE = 1600; // pixels of the longer side then
const HEALTH = "healthz";
let address = "";
let latest = 0;
let refused = null; // the file that a wrong key kept from being looked at
let chosen = null; // the file that was looked at last

/** Ask the server, with the key that was typed; ask for one where it is refused. */
async function ask(path, body) {
  const key = sessionStorage.getItem("key");
  const kind = typeof body === "string" ? "application/json" : "application/octet-stream";
  const headers = { ...(body && { "content-type": kind }), ...(key && { authorization: `Bearer ${key}` }) };
  const answer = await fetch(path, { method: body ? "POST" : "GET", headers, body });
  if (answer.status === 401) get("key").hidden = false;
  else if (path !== HEALTH) get("key").hidden = true; // which may be open without the key
  return answer;
}

/** What the server says there, and whether all is well; null where it wants the key first, which is asked for. */
async function told(path) {
  const answer = await ask(path);
  if (answer.status === 401) {
    get("model").textContent = "";
    get("secret").focus();
    return null;
  }
  const result = await answer.json().catch(() => ({ error: `The server answers with ${answer.status}.` }));
  if (result.error) throw new Error(result.error);
  return [result, answer.ok];
}

/** Ask which model is served, again and again until it is ready. */
async function meet() {
  try {
    const health = await told(HEALTH);
    if (!health) return;
    const [{ status, model, version }, ready] = health;
    address = `v1/models/${model}:predict`;
    const key = sessionStorage.getItem("key") ? ` -H "Authorization: Bearer $KEY"` : "";
    get("curl").textContent = `curl${key} -F image=@photo.jpg ${new URL(address, location.href)}`;
    const described = ready ? await told(`v1/models/${model}/metadata`) : [];
    if (!described) return;
    get("model").textContent = ready ? `Model ${model}, version ${version}` : `Model ${model} is ${status}…`;
    if (ready) {
      get("where").hidden = !described[0].metadata.signature_def.signature_def.explain;
      return;
    }
  } catch (error) {
    get("model").textContent = error instanceof TypeError ? "The server does not answer." : error.message;
  }
  setTimeout(meet, 1000);
}

/** The image in a file as a PNG file, its longer side of so many pixels at most. */
async function drawn(file, side) {
  const image = await createImageBitmap(file);
  const scale = Math.min(1, side / Math.max(image.width, image.height));
  const canvas = new OffscreenCanvas(Math.max(1, image.width * scale), Math.max(1, image.height * scale));
  canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
  return await canvas.convertToBlob({ type: "image/png" });
}

/** The file in a format that the server takes, and whether it was made smaller for it. */
async function prepared(file) {
  if (file.size > MOST) {
    if (!SMALLER.includes(file.type)) throw new Error(`This file is too large: it has more than ${MOST / 1e6} MB.`);
    return [await drawn(file, SIDE), true];
  }
  if (!file.type || AS_IT_IS.includes(file.type)) return [file, false];
  try {
    const image = await drawn(file, Infinity);
    return image.size > MOST ? [await drawn(file, SIDE), true] : [image, false];
  } catch {
    return [file, false]; // the server reads more kinds than a browser, and says what it cannot read
  }
}

/** The server's answer to an image, and what is in it. */
async function answered(image) {
  const wanted = get("explain").checked && !get("where").hidden;
  const answer = await ask(address, wanted ? await explained(image) : image);
  return [answer, await answer.json()];
}

/** A question for a heat map too, which takes the image in JSON. */
async function explained(image) {
  const reader = new FileReader();
  const read = new Promise((done, failed) => Object.assign(reader, { onload: done, onerror: failed }));
  reader.readAsDataURL(image);
  await read;
  return JSON.stringify({ signature_name: "explain", instances: [{ b64: reader.result }] });
}

async function classify(file) {
  const number = ++latest; // an answer that comes after a newer question is not shown
  chosen = file;
  const preview = get("preview");
  URL.revokeObjectURL(preview.src);
  preview.src = URL.createObjectURL(file);
  preview.alt = `The chosen image, ${file.name || "pasted"}`;
  preview.hidden = false;
  show("Looking…", []);
  try {
    let [image, smaller] = await prepared(file);
    refused = address ? null : file;
    if (!address) throw new Error(get("key").hidden ? "The server does not answer." : "The key is needed first.");
    const start = performance.now();
    let [answer, result] = await answered(image);
    const large = answer.status === 413 || /more than [\d,]+ pixels/.test(result.error);
    if (!answer.ok && large && !smaller && SMALLER.includes(image.type)) {
      [image, smaller] = [await drawn(file, SIDE), true];
      [answer, result] = await answered(image);
    }
    if (number !== latest) return;
    refused = answer.status === 401 ? file : null;
    if (!answer.ok) throw new Error(result.error);
    const [{ top_classes: names, top_scores: scores, labels, label_scores: own, heat_map_bytes: heat }] = result.predictions;
    const likely = names.map((name, index) => [name, scores[index], !labels]);
    const present = (labels ?? []).flatMap((name, index) => name ? [[name, own[index], true]] : []);
    const known = new Set(present.map(([name]) => name));
    const status = [
      smaller ? `The image was made smaller before it was sent, to ${SIDE} pixels.` : "",
      labels && !present.length ? "No label is likely enough; the nearest:" : "",
    ].filter(Boolean).join(" ");
    show(status, labels ? [...present, ...likely.filter(([name]) => !known.has(name))] : likely, performance.now() - start);
    if (heat) look(names[0], heat.b64);
    meet();
  } catch (error) {
    if (number === latest) show(error instanceof TypeError ? "The server does not answer." : error.message, [], 0, true);
  }
}

function show(status, classes, milliseconds, wrong = false) {
  get("status").textContent = status;
  get("status").classList.toggle("wrong", wrong);
  get("time").textContent = milliseconds ? `Answered in ${milliseconds.toFixed(0)} ms.` : "";
  get("looked").hidden = true;
  get("classes").replaceChildren(...classes.map(([name, score, present]) => {
    const item = document.createElement("li");
    item.classList.toggle("absent", !present);
    const row = item.appendChild(document.createElement("div"));
    row.className = "row";
    const label = row.appendChild(document.createElement("span"));
    label.className = "name";
    label.textContent = name;
    const percent = row.appendChild(document.createElement("span"));
    percent.className = "score";
    percent.textContent = score < 0.0005 ? "<0.1%" : `${(100 * score).toFixed(1)}%`;
    const track = item.appendChild(document.createElement("div"));
    track.className = "track";
    track.setAttribute("aria-hidden", "true"); // the number says it
    const bar = track.appendChild(document.createElement("div"));
    bar.className = "bar";
    bar.style.width = `${100 * score}%`;
    return item;
  }));
}

/** Show the image as the model sees it, and where it looked. */
function look(name, picture) {
  get("heat").src = `data:image/png;base64,${picture}`;
  get("heat").alt = `The image as the model sees it, and beside it where it looked for ${name}`;
  get("looked").querySelector("figcaption").textContent = `The brighter, the more a place speaks for ${name}.`;
  get("looked").hidden = false;
}

get("key").addEventListener("submit", async (event) => {
  event.preventDefault();
  sessionStorage.setItem("key", get("secret").value.trim()); // gone with the tab
  const file = refused;
  await meet();
  if (file && get("key").hidden) classify(file);
});
get("file").addEventListener("change", (event) => {
  const [file] = event.target.files;
  event.target.value = ""; // so that the same file can be chosen again
  if (file) classify(file);
});
get("explain").addEventListener("change", () => { if (chosen) classify(chosen); });
for (const kind of ["dragover", "dragleave", "drop"]) {
  document.addEventListener(kind, (event) => {
    event.preventDefault(); // a browser would leave the page for the file
    get("drop").classList.toggle("over", kind === "dragover");
    if (kind === "drop" && event.dataTransfer.files.length) classify(event.dataTransfer.files[0]);
  });
}
get("preview").addEventListener("error", (event) => { event.target.hidden = true; });
document.addEventListener("paste", (event) => {
  if (event.clipboardData.files.length) classify(event.clipboardData.files[0]);
});
meet();
