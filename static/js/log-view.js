// The live log on an instance's page: its socket, its buttons, following and finding.

import { copyText } from "./copy.js";
import { LogBuffer } from "./log-buffer.js";
import { LogList } from "./log-list.js";

const CAPACITY = 20000;
const OLDER_LINES = 2000;
const SLOWEST_MS = 15000;
const NEAR_END = 4; // pixels

const root = document.getElementById("log");
const part = (name) => root.querySelector(`[data-log-${name}]`);
const view = part("view");
const buffer = new LogBuffer(CAPACITY);
const list = new LogList(view, buffer);
list.follows = true;

// What is remembered from page to page

function remember(name, value) {
  try {
    localStorage.setItem(`corral-log-${name}`, value);
  } catch {
    // storage is switched off: the choice holds for this page
  }
}

function recall(name, otherwise) {
  try {
    return (localStorage.getItem(`corral-log-${name}`) ?? otherwise) === "true";
  } catch {
    return otherwise === "true";
  }
}

// The socket

let cursor = "";
let failures = 0;

function say(text, isWrong = false) {
  part("state").textContent = text;
  part("state").classList.toggle("text-danger", isWrong);
}

function connect() {
  const url = new URL(`/ws/instances/${encodeURIComponent(root.dataset.name)}/logs`, location.href);
  url.protocol = url.protocol.replace("http", "ws");
  url.searchParams.set("lines", OLDER_LINES);
  if (cursor) url.searchParams.set("cursor", cursor);
  const socket = new WebSocket(url);
  socket.addEventListener("open", () => {
    failures = 0;
    sayState();
  });
  socket.addEventListener("message", (message) => take(JSON.parse(message.data)));
  socket.addEventListener("close", (event) => {
    if ([4400, 4401, 4403, 4404].includes(event.code)) {
      say(event.reason || "The log is closed.", true);
      return;
    }
    failures += 1;
    const pause = Math.min(SLOWEST_MS, 400 * 2 ** Math.min(failures, 6)) * (0.5 + Math.random() / 2);
    say("Connection lost; connecting again…", true);
    setTimeout(connect, pause);
  });
}

function take(message) {
  let changed = false;
  if (message.cursor) cursor = message.cursor;
  if (message.type === "log") {
    for (const entry of message.lines) changed = buffer.add(entry) || changed;
  } else if (message.type === "gap") {
    buffer.note(`${message.bytes} bytes of the log are gone`);
  } else if (message.type === "run") {
    takeRun(message);
  } else return;
  list.update(changed);
  sayState();
  countMatches();
}

let begun = "";

function takeRun(message) {
  if (message.event === "ends") {
    buffer.note(`run ${message.run_id} ended`);
    begun = "";
  } else if (begun !== message.run_id) {
    if (message.state) buffer.note(`run ${message.run_id}`);
    begun = message.run_id;
  }
}

let sayTimer = 0;

function sayState() {
  if (sayTimer) return;
  sayTimer = setTimeout(() => {
    sayTimer = 0;
    const lines = buffer.lines.length + buffer.dropped;
    const kept = buffer.dropped ? `, the last ${buffer.lines.length} of them are here` : "";
    say(lines ? `${lines} line${lines === 1 ? "" : "s"}${kept}. ${list.follows ? "Following." : "Paused."}` : "Nothing has been logged yet.");
  }, 200);
}

// Following: scrolling up pauses, and so does selecting; the end resumes

function isSelecting() {
  const selection = document.getSelection();
  return !selection.isCollapsed && view.contains(selection.anchorNode);
}

function follow(on) {
  if (list.follows === on) return;
  list.follows = on;
  part("end").hidden = on;
  if (on) list.draw();
  sayState();
}

let last = { top: 0, height: 0, width: 0 };
view.addEventListener("scroll", () => {
  const now = { top: view.scrollTop, height: view.clientHeight, width: view.clientWidth };
  const atEnd = now.top + now.height >= view.scrollHeight - NEAR_END;
  const isResized = now.height !== last.height || now.width !== last.width; // then nobody scrolled
  if (now.top < last.top && !atEnd && !isResized) follow(false);
  else if (atEnd && !isSelecting()) follow(true);
  last = now;
  list.draw();
});
document.addEventListener("selectionchange", () => {
  if (isSelecting()) follow(false);
});
part("end").addEventListener("click", () => {
  document.getSelection().removeAllRanges();
  follow(true);
  view.focus();
});

// Finding

let matches = [];
let position = -1;
let countTimer = 0;

function findMatches() {
  matches = list.find ? buffer.shown.filter((line) => line.text.toLowerCase().includes(list.find)) : [];
  position = matches.indexOf(list.current);
  showCount();
}

function countMatches() {
  if (!list.find || countTimer) return;
  countTimer = setTimeout(() => {
    countTimer = 0;
    findMatches();
  }, 150);
}

function showCount() {
  part("found").textContent = !list.find ? "" : matches.length ? `${position + 1}/${matches.length}` : "none";
}

function step(by) {
  findMatches();
  if (!matches.length) return;
  position = position < 0 ? (by > 0 ? 0 : matches.length - 1) : (position + by + matches.length) % matches.length;
  list.current = matches[position];
  follow(false);
  list.show(buffer.shown.indexOf(list.current));
  showCount();
}

part("search").addEventListener("input", (event) => {
  list.find = event.target.value.toLowerCase();
  list.current = null;
  position = -1;
  matches = [];
  showCount();
  countMatches();
  list.draw();
});
part("search").addEventListener("keydown", (event) => {
  if (event.key === "Enter") step(event.shiftKey ? -1 : 1);
});
part("next").addEventListener("click", () => step(1));
part("previous").addEventListener("click", () => step(-1));

// The other buttons

function toggle(name, otherwise, apply) {
  const button = part(name);
  const set = (on) => {
    button.setAttribute("aria-pressed", on);
    apply(on);
  };
  button.addEventListener("click", () => {
    const on = button.getAttribute("aria-pressed") !== "true";
    remember(name, on);
    set(on);
  });
  set(recall(name, otherwise));
}

toggle("wrap", "true", (on) => {
  list.wrap = on;
  view.classList.toggle("is-wrapped", on);
  list.relayout();
});
toggle("times", "false", (on) => {
  list.times = on;
  list.relayout();
});
part("stream").addEventListener("change", (event) => {
  buffer.showStream(event.target.value);
  list.relayout();
  countMatches();
});
part("copy").addEventListener("click", async (event) => {
  const label = event.currentTarget.querySelector("[data-label]");
  const text = buffer.shown.map((line) => line.text).join("\n");
  label.textContent = await copyText(text).then(() => "Copied", () => "Can't copy");
  setTimeout(() => (label.textContent = "Copy"), 2000);
});
for (const control of root.querySelectorAll("[disabled]")) control.disabled = false;
connect();
