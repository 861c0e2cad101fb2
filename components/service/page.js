// The page at /: a file goes up, its progress is shown, then its answer, report and overlay.
"use strict";
const $ = (id) => document.getElementById(id);
const TOKEN = "emd-token";
const POLL_MS = 700;
const LOST_POLLS = 8; // in a row, after which the service is taken for gone
const CLASSES = { manipulated: "manipulated", "nothing found": "nothing" };
let turn = 0; // of the file that is shown; what an earlier one still has under way is dropped
let urls = [];

class Problem extends Error {}

function headers() {
  const token = sessionStorage.getItem(TOKEN);
  return token ? { Authorization: `Bearer ${token}` } : {};
}

function show(...ids) {
  for (const id of ["work", "answer", "ask", "actions", "report"]) $(id).hidden = !ids.includes(id);
  document.body.classList.toggle("used", ids.length > 0);
}

function sentence(status, text) {
  try {
    return JSON.parse(text).detail || text;
  } catch {
    return `The service answered with ${status}.`;
  }
}

function problem(message) {
  $("answer").className = "answer error";
  $("said").textContent = message;
  $("reasons").replaceChildren();
  $("about").textContent = "";
  show("answer");
}

function step(text, share, name = "") {
  $("step").textContent = text;
  $("working-on").textContent = name;
  if (share === null) $("progress").removeAttribute("value");
  else $("progress").value = share;
  show("work");
}

// XMLHttpRequest, as fetch does not tell how much of a body is sent.
function upload(file, mine) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("POST", `v1/verdicts?name=${encodeURIComponent(file.name)}`);
    for (const [name, value] of Object.entries(headers())) request.setRequestHeader(name, value);
    request.setRequestHeader("Content-Type", "application/octet-stream");
    request.upload.onprogress = (event) => {
      if (mine !== turn) return request.abort();
      const share = event.loaded / file.size;
      if (share < 1) step(`Uploading, ${Math.floor(100 * share)} %`, share, file.name);
      else step("Uploaded; it is being looked at", null, file.name);
    };
    request.onload = () => resolve({ status: request.status, text: request.responseText });
    request.onerror = () => reject(new Problem("The connection broke during the upload; try again."));
    request.onabort = () => reject(new Problem(""));
    request.send(file);
  });
}

async function get(path) {
  const answer = await fetch(path, { headers: headers() });
  if (answer.status === 401) throw new Problem("token");
  if (!answer.ok) throw new Problem(sentence(answer.status, await answer.text()));
  return answer;
}

async function follow(id, name, mine) {
  let lost = 0;
  for (;;) {
    try {
      const state = await (await get(`v1/verdicts/${id}`)).json();
      if (mine !== turn) return;
      lost = 0;
      if (state.status === "done" || state.status === "failed") return await finish(state, mine);
      if (state.status === "waiting") step("Waiting for its turn", null, name);
      else step(`Looking at it, ${Math.floor(100 * state.progress)} %`, state.progress, name);
    } catch (error) {
      if (error instanceof Problem || ++lost > LOST_POLLS) throw error;
    }
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
}

async function finish(state, mine) {
  if (state.status === "failed") return problem(state.reason);
  const verdict = state.verdict;
  const blobs = {};
  for (const part of ["report", "overlay"]) {
    if (state.links[part]) blobs[part] = await (await get(state.links[part].slice(1))).blob();
  }
  if (mine !== turn) return;
  urls.forEach(URL.revokeObjectURL);
  urls = [];
  const link = (blob) => (urls.push(URL.createObjectURL(blob)), urls.at(-1));
  const save = (id, blob, ending) => {
    $(id).hidden = !blob;
    if (blob) Object.assign($(id), { href: link(blob), download: verdict.file + ending });
  };
  $("answer").className = `answer ${CLASSES[verdict.answer] || ""}`;
  $("said").textContent = verdict.sentence;
  const reasons = verdict.reasons.filter((reason) => !verdict.sentence.includes(reason));
  $("reasons").replaceChildren(...reasons.map((reason) => Object.assign(document.createElement("li"), { textContent: reason })));
  const version = `judged by ${verdict.model.name}`;
  $("about").textContent = `${verdict.file}, ${version}`;
  save("save-report", blobs.report, ".report.html");
  save("save-overlay", blobs.overlay, ".overlay.mp4");
  save("save-verdict", new Blob([JSON.stringify(verdict, null, 1)], { type: "application/json" }), ".verdict.json");
  $("delete").onclick = () => forget(state.id);
  show("actions", blobs.report ? "report" : "answer"); // the report begins with the answer
  if (!blobs.report) return;
  // The frame cannot send the token, so the video beside the report is handed in.
  const video = blobs.overlay ? link(blobs.overlay) : "";
  const report = await blobs.report.text();
  $("report").srcdoc = report
    .replace(/ src="(\.\/)?overlay\.mp4"/g, ` src="${video}"`)
    .replace(/ href="(\.\/)?overlay\.mp4"/g, "");
}

async function forget(id) {
  try {
    const answer = await fetch(`v1/verdicts/${id}`, { method: "DELETE", headers: headers() });
    if (!answer.ok && answer.status !== 404) throw new Problem(sentence(answer.status, await answer.text()));
    turn++;
    history.replaceState(null, "", location.pathname);
    clear();
    show();
  } catch (error) {
    tell(error);
  }
}

function clear() {
  $("report").removeAttribute("srcdoc");
  urls.forEach(URL.revokeObjectURL);
  urls = [];
}

function tell(error, again) {
  if (error.message === "token") return ask(again);
  if (!(error instanceof Problem)) problem("The service cannot be reached; try again later.");
  else if (error.message) problem(error.message);
}

function ask(again) {
  const wrong = sessionStorage.getItem(TOKEN);
  sessionStorage.removeItem(TOKEN);
  if (wrong) problem("The token is wrong.");
  show("ask", ...(wrong ? ["answer"] : []));
  $("token").value = "";
  $("token").focus();
  $("ask").onsubmit = (event) => {
    event.preventDefault();
    sessionStorage.setItem(TOKEN, $("token").value.trim());
    again();
  };
}

async function judge(files) {
  const mine = ++turn;
  clear();
  history.replaceState(null, "", location.pathname);
  if (files.length !== 1) return problem("One file at a time, please.");
  const [file] = files;
  const most = Number(document.body.dataset.maxMb);
  if (file.size > most * 1e6) return problem(`The file is larger than ${most} MB, the most that is taken here.`);
  if (!file.size) return problem("The file is empty.");
  try {
    step("Uploading", 0, file.name);
    const { status, text } = await upload(file, mine);
    if (mine !== turn) return;
    if (status === 401) throw new Problem("token");
    if (status >= 300) throw new Problem(sentence(status, text));
    const state = JSON.parse(text);
    history.replaceState(null, "", `#${state.id}`); // so that loading the page again goes on
    await follow(state.id, file.name, mine);
  } catch (error) {
    if (mine === turn) tell(error, () => judge(files));
  }
}

async function resume() {
  const id = location.hash.slice(1);
  if (!/^[\w-]+$/.test(id)) return;
  const mine = ++turn;
  try {
    await follow(id, "", mine);
  } catch (error) {
    if (mine === turn) tell(error, resume);
  }
}

// The report runs no scripts, so this one makes its frame as high as it is.
$("report").addEventListener("load", () => {
  const inner = $("report").contentDocument;
  if (!inner?.body.children.length) return;
  const fit = () => ($("report").style.height = `${inner.documentElement.scrollHeight + 4}px`);
  new ResizeObserver(fit).observe(inner.body);
});
$("file").addEventListener("change", (event) => {
  const files = [...event.target.files];
  event.target.value = ""; // the same file may be chosen again
  if (files.length) judge(files);
});
for (const kind of ["dragover", "dragleave", "drop"]) {
  document.addEventListener(kind, (event) => {
    event.preventDefault(); // or the browser opens a file that misses the box
    $("drop").classList.toggle("over", kind === "dragover");
    if (kind === "drop" && event.dataTransfer.files.length) judge([...event.dataTransfer.files]);
  });
}
resume();
