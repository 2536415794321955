// One WebSocket per page tells that something changed; the parts of the page that show it fetch themselves anew.

const GAP_MS = 300; // at most one refresh in this time, however many events arrive
const SLOWEST_MS = 15000;

let failures = 0;
let refreshTimer = 0;
let lastRefresh = 0;

function refresh() {
  if (refreshTimer) return;
  const wait = Math.max(0, lastRefresh + GAP_MS - performance.now());
  refreshTimer = setTimeout(() => {
    refreshTimer = 0;
    if (document.querySelector("dialog form.htmx-request")) {
      refresh(); // what is being deleted here must not be looked up: the deletion's own answer comes first
      return;
    }
    lastRefresh = performance.now();
    document.body.dispatchEvent(new CustomEvent("corral:refresh"));
  }, wait);
}

function showConnection(isOpen) {
  document.documentElement.classList.toggle("is-offline", !isOpen);
}

function connect() {
  const url = new URL("/ws/events", location.href);
  url.protocol = url.protocol.replace("http", "ws");
  const socket = new WebSocket(url);
  socket.addEventListener("open", () => {
    failures = 0;
    showConnection(true);
    refresh(); // whatever happened while nobody listened
  });
  socket.addEventListener("message", (message) => {
    const event = JSON.parse(message.data);
    const shown = document.body.dataset.instance;
    const isElsewhere = event.instance_id && String(event.instance_id) !== shown; // what may be seen concerns all pages
    if (shown && isElsewhere) return;
    refresh();
  });
  socket.addEventListener("close", (event) => {
    if (event.code === 4401 || event.code === 4403) return; // signed out; the next click says so
    failures += 1;
    if (failures > 1) showConnection(false);
    const pause = Math.min(SLOWEST_MS, 500 * 2 ** Math.min(failures, 6));
    setTimeout(connect, pause * (0.5 + Math.random() / 2)); // spread, so that not all pages come back at once
  });
}

connect();
