// Small things every page has: messages that go away, menus and dialogs that close, copying, errors of requests.

import { copyText } from "./copy.js";

const TOAST_MS = 7000;

function tidyToasts() {
  for (const toast of document.querySelectorAll(".toast:not([data-seen])")) {
    toast.dataset.seen = "true";
    if (toast.dataset.stays !== undefined) continue;
    const leave = () => {
      // Not while somebody reads it with the pointer or the keyboard.
      if (toast.matches(":hover, :focus-within")) setTimeout(leave, 1000);
      else toast.remove();
    };
    setTimeout(leave, TOAST_MS);
  }
}

function showFault(text) {
  const template = document.getElementById("fault-toast");
  const toast = template.content.firstElementChild.cloneNode(true);
  toast.querySelector("[data-text]").textContent = text;
  document.getElementById("toasts").append(toast);
  tidyToasts();
}

async function copyFrom(button) {
  const source = document.getElementById(button.dataset.copy);
  const label = button.querySelector("[data-label]") ?? button;
  const before = label.textContent;
  try {
    await copyText(source.textContent);
    label.textContent = "Copied";
  } catch {
    label.textContent = "Can't copy";
  }
  setTimeout(() => (label.textContent = before), 2000);
}

document.addEventListener("click", (event) => {
  const target = event.target;
  for (const menu of document.querySelectorAll("details.menu[open]")) {
    if (!menu.contains(target)) menu.open = false;
  }
  if (target.closest("[data-dismiss]")) target.closest(".toast").remove();
  const opener = target.closest("[data-opens]");
  if (opener) {
    event.preventDefault(); // without scripts it is a link to a page that asks the same
    for (const menu of document.querySelectorAll("details.menu[open]")) menu.open = false;
    document.getElementById(opener.dataset.opens).showModal();
  }
  if (target.closest("[data-closes]") || target.matches("dialog")) {
    target.closest("dialog").close();
  }
  const copier = target.closest("[data-copy]");
  if (copier) copyFrom(copier);
});

document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  for (const menu of document.querySelectorAll("details.menu[open]")) {
    menu.open = false;
    menu.querySelector("summary").focus();
  }
});

// While this page deletes what it shows, only the deletion's own answer counts: a refresh that was under way would say
// that the thing is gone.
let isLeaving = false;
const isDeletion = (element) => element.closest("dialog") !== null && element.matches("form");

document.addEventListener("htmx:beforeRequest", (event) => {
  if (isDeletion(event.detail.elt)) isLeaving = true;
});
document.addEventListener("htmx:beforeOnLoad", (event) => {
  const { elt, xhr } = event.detail;
  if (isDeletion(elt)) isLeaving = xhr.status < 400;
  else if (isLeaving) event.preventDefault();
});
document.addEventListener("htmx:sendError", (event) => {
  if (isDeletion(event.detail.elt)) isLeaving = false;
});

document.addEventListener("htmx:beforeSwap", (event) => {
  const { xhr } = event.detail;
  if (xhr.status < 400 || xhr.getResponseHeader("Corral-Fragment")) return;
  event.detail.shouldSwap = false;
  showFault(
    xhr.status === 403
      ? "This page is too old or not for you. Reload it and try again."
      : `That did not work (HTTP ${xhr.status}). Try again; Corral's log says more.`,
  );
});
for (const name of ["htmx:sendError", "htmx:timeout"]) {
  document.addEventListener(name, (event) => {
    if (event.detail.requestConfig.verb === "get") return; // refreshed by itself; the page says that it is cut off
    showFault("Corral does not answer. Look whether it runs, then try again.");
  });
}
document.addEventListener("htmx:afterSettle", tidyToasts);
document.addEventListener("htmx:oobAfterSwap", tidyToasts);
tidyToasts();

// Lengths of time go on while nothing is fetched.
const STEPS = [[86400, "day"], [3600, "hour"], [60, "minute"], [1, "second"]];

function spanOf(seconds) {
  const [size, unit] = STEPS.find(([size]) => seconds >= size) ?? [1, "second"];
  const count = Math.floor(Math.max(0, seconds) / size);
  return `${count} ${unit}${count === 1 ? "" : "s"}`;
}

setInterval(() => {
  for (const element of document.querySelectorAll("time[data-runs]")) {
    const seconds = (Date.now() - Date.parse(element.dateTime)) / 1000;
    const isPast = element.dataset.runs === "ago";
    const words = isPast && seconds < 5 ? "just now" : spanOf(seconds) + (isPast ? " ago" : "");
    if (element.textContent !== words) element.textContent = words;
  }
}, 1000);
