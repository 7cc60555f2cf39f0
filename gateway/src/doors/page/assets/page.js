// What is live on the page: times, the list, a build's steps and log. Without it the page works, and is looked at anew.

// HTML comes from the page itself alone, which escapes what others wrote; elsewhere only text is set.
const own = window.trustedTypes?.createPolicy("kiln", { createHTML: (html) => html }) ?? { createHTML: (html) => html };
const $ = (id) => document.getElementById(id);
const SCRIPT = { "X-Kiln-Page": "1" };

// Takes what has changed from the page as it is now; whoever stands somewhere stays there.
async function renew() {
  const answer = await fetch(location.href, { headers: SCRIPT });
  if (answer.status === 401) return location.reload();
  if (!answer.ok) return;
  const fresh = new DOMParser().parseFromString(own.createHTML(await answer.text()), "text/html");
  for (const part of document.querySelectorAll("[data-live]")) {
    const now = fresh.getElementById(part.id);
    if (!now || now.isEqualNode(part)) continue;
    const focused = part.contains(document.activeElement) && document.activeElement.id;
    part.dataset.every = now.dataset.every ?? "";
    part.replaceChildren(...now.childNodes);
    if (focused) ($(focused) ?? $("main")).focus({ preventScroll: true });
  }
  copies();
}

function copies() {
  if (!navigator.clipboard) return;
  for (const button of document.querySelectorAll("button[data-copy]")) {
    button.hidden = false;
    button.onclick = async () => {
      await navigator.clipboard.writeText(button.dataset.copy);
      button.firstChild.data = "Copied";
      setTimeout(() => { button.firstChild.data = "Copy"; }, 1500);
    };
  }
}

function ago(seconds) {
  if (seconds < 10) return "just now";
  if (seconds < 60) return `${Math.floor(seconds)} s ago`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ago`;
  if (seconds < 86400) return `${Math.floor(seconds / 3600)} h ago`;
  return `${Math.floor(seconds / 86400)} d ago`;
}

function took(ms) {
  const s = Math.max(ms, 0) / 1000;
  if (s < 1) return `${Math.floor(s * 1000)} ms`;
  if (s < 10) return `${(Math.floor(s * 10) / 10).toFixed(1)} s`;
  if (s < 60) return `${Math.floor(s)} s`;
  const two = (n) => String(Math.floor(n)).padStart(2, "0");
  return s < 3600 ? `${Math.floor(s / 60)} min ${two(s % 60)} s` : `${Math.floor(s / 3600)} h ${two((s / 60) % 60)} min`;
}

function times() {
  for (const time of document.querySelectorAll("time")) {
    const text = ago((Date.now() - Date.parse(time.dateTime)) / 1000);
    if (time.textContent !== text) time.textContent = text;
  }
}

// The list: looked at so often as it says itself, while somebody looks at it.
function watchList(list) {
  const again = () => setTimeout(async () => {
    if (!document.hidden) await renew().catch(() => {});
    again();
  }, Number(list.dataset.every) || 15000);
  again();
}

// Steps: bars over the time from the first one's beginning to now, or to the last one's end.
const steps = $("steps");
const skew = steps ? Number(steps.dataset.now) - Date.now() : 0;

function draw() {
  const now = Date.now() + skew;
  const clock = $("clock");
  if (clock) clock.textContent = took(now - Number(clock.dataset.began));
  const rows = [...steps.children];
  $("no-steps").hidden = rows.length > 0;
  if (!rows.length) return;
  const end = (row) => Number(row.dataset.ended ?? now);
  const first = Math.min(...rows.map((row) => Number(row.dataset.began)));
  const whole = Math.max(...rows.map(end), first + 1) - first;
  $("whole").textContent = took(whole);
  for (const row of rows) {
    const began = Number(row.dataset.began);
    const rect = row.querySelector("rect");
    rect.setAttribute("x", `${((began - first) / whole * 100).toFixed(2)}%`);
    rect.setAttribute("width", `${(Math.max(end(row) - began, 0) / whole * 100).toFixed(2)}%`);
    row.querySelector(".took").textContent = took(end(row) - began);
  }
}

const ENDS = { "step-done": "done", "step-cached": "cached", "step-failed": "failed" };

function step(record) {
  const time = Date.parse(record.time);
  if (record.kind === "attempt") steps.replaceChildren();
  if (record.kind === "step") {
    const row = $("step").content.firstElementChild.cloneNode(true);
    Object.assign(row.dataset, { step: record.step, began: time });
    const name = row.querySelector(".name");
    name.title = name.textContent = brief(harmless(record.text ?? ""));
    steps.append(row);
  }
  const ended = ENDS[record.kind] ?? (record.kind === "end" && "stopped");
  if (!ended) return;
  for (const row of steps.querySelectorAll(".running")) {
    if (record.kind !== "end" && Number(row.dataset.step) !== record.step) continue;
    row.className = row.querySelector(".mark").textContent = ended;
    row.dataset.ended = time;
  }
}

// A digest says the same by its beginning.
const brief = (name) => name.replace(/\s+/g, " ").replace(/(@sha256:[0-9a-f]{7})[0-9a-f]{57}/g, "$1…").slice(0, 200);

// No terminal's commands, nothing that reorders text: as the server shows it.
function harmless(text) {
  return text
    .replace(/\x1b(?:\[[0-?]*[ -\/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\^_])/g, "")
    .replace(/\r+\n/g, "\n").replace(/\r/g, "\n")
    .replace(/[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/g, "\ufffd");
}

// The log: lines at its end, the oldest of very many gone from the page.
const log = $("log");
const MOST = 4000;
let writer = log && Number(log.dataset.step);
let open = log && "open" in log.dataset;

function say(kind, text) {
  if (open) log.append("\n");
  open = false;
  const line = document.createElement("b");
  line.className = kind;
  line.textContent = text;
  log.append(line, "\n");
}

const decoders = new Map();

function output(record) {
  if (record.step !== writer) {
    say("step", `#${record.step}`);
    writer = record.step;
  }
  let decoder = decoders.get(record.step);
  if (!decoder) decoders.set(record.step, decoder = new TextDecoder());
  const bytes = record.base64 === undefined
    ? new TextEncoder().encode(record.text)
    : Uint8Array.from(atob(record.base64), (letter) => letter.charCodeAt(0));
  const text = harmless(decoder.decode(bytes, { stream: true }));
  if (!text) return;
  log.append(text);
  open = !text.endsWith("\n");
}

function write(record) {
  const of = record.step ? `#${record.step} ` : "";
  const text = harmless(record.text ?? "");
  switch (record.kind) {
    case "stdout": case "stderr": output(record); return;
    case "step": case "step-failed": writer = record.step; say(record.kind === "step" ? "step" : "error", of + text); return;
    case "step-cached": writer = record.step; say("note", `${of}from the cache`); return;
    case "attempt": if (text !== "1") say("note", `attempt ${text}`); return;
    case "warning": case "end": say(record.kind, text); return;
    case "note": case "clipped": say("note", of + text); return;
  }
}

function trim() {
  if (log.childNodes.length <= MOST) return;
  while (log.childNodes.length > MOST) log.firstChild.remove();
  $("cut").hidden = false;
}

async function* records(path, after) {
  const headers = { ...SCRIPT, Accept: "application/x-ndjson" };
  const answer = await fetch(`${path}?follow=true&after=${after}`, { headers });
  if (answer.status === 401) location.reload();
  if (!answer.ok) throw new Error(answer.statusText);
  const lines = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await lines.read();
    if (done) return;
    const whole = (rest + value).split("\n");
    rest = whole.pop();
    yield whole.filter(Boolean).map((line) => JSON.parse(line));
  }
}

async function follow() {
  let after = Number(log.dataset.after);
  const box = $("follow");
  $("following").hidden = false;
  const down = () => { if (box.checked) log.scrollTop = log.scrollHeight; };
  box.onchange = down;
  // Who goes up reads, from the first touch on: what comes meanwhile doesn't take them back. Who comes to the end follows again.
  // Word of the last scrolling to the end may come after that touch, and before the log moves: it isn't the reader's.
  let leaving = false;
  const leave = (up) => { leaving = up; if (up) box.checked = false; };
  log.addEventListener("wheel", ({ deltaY }) => leave(deltaY < 0), { passive: true });
  log.addEventListener("touchmove", () => { box.checked = false; }, { passive: true });
  log.addEventListener("keydown", ({ key }) => {
    if (["ArrowUp", "PageUp", "Home"].includes(key)) leave(true);
    if (["ArrowDown", "PageDown"].includes(key)) leave(false);
    // Lines come faster than it scrolls there.
    if (key === "End") { leave(false); box.checked = true; down(); }
  });
  let last = 0;
  log.addEventListener("scroll", () => {
    const up = log.scrollTop < last;
    const atEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 40;
    last = log.scrollTop;
    if (up) leaving = false;
    if (up !== atEnd && !leaving) box.checked = atEnd;
  }, { passive: true });
  const ticking = setInterval(draw, 500);
  down();
  let ended = false;
  for (let waits = 1; !ended; waits = Math.min(waits * 2, 15)) {
    try {
      for await (const some of records(log.dataset.follow, after)) {
        const followed = box.checked;
        waits = 1;
        for (const record of some) {
          if (record.seq === undefined) continue;
          after = record.seq;
          step(record);
          write(record);
          ended ||= record.kind === "end";
        }
        trim();
        draw();
        if (followed) log.scrollTop = log.scrollHeight;
        if (some.some((record) => record.kind === "attempt")) await renew();
      }
    } catch { /* It is tried again, from the last record seen. */ }
    if (!ended) await new Promise((resolve) => setTimeout(resolve, waits * 1000));
  }
  clearInterval(ticking);
  $("following").hidden = true;
  // The log ends once the build's end is known.
  await renew();
}

copies();
setInterval(times, 10000);
if ($("builds")) watchList($("builds"));
if (log?.dataset.follow) follow();
else if (log) log.scrollTop = log.scrollHeight;
