// The form of an instance: rows that can be added and removed, and a search among an engine's many options.

function addRow(button) {
  const rows = button.closest("[data-rows]");
  const last = rows.querySelector("[data-row]:last-of-type");
  const row = last.cloneNode(true);
  for (const input of row.querySelectorAll("input")) input.value = "";
  last.after(row);
  row.querySelector("input").focus();
}

function removeRow(button) {
  const row = button.closest("[data-row]");
  const rows = row.closest("[data-rows]");
  if (rows.querySelectorAll("[data-row]").length > 1) row.remove();
  else for (const input of row.querySelectorAll("input")) input.value = "";
  rows.querySelector("[data-add-row]").focus();
}

function searchOptions() {
  const search = document.getElementById("option-search");
  if (!search) return;
  const words = search.value.toLowerCase().replace(/^-+/, "").replaceAll("-", "_").split(/\s+/).filter(Boolean);
  const onlySet = document.getElementById("option-only-set").checked;
  let shown = 0;
  for (const group of document.querySelectorAll("[data-option-group]")) {
    let inGroup = 0;
    for (const option of group.querySelectorAll("[data-option]")) {
      const text = option.dataset.option.replaceAll("-", "_");
      const isSet = option.querySelector("input, select, textarea").value !== "";
      option.hidden = !words.every((word) => text.includes(word)) || (onlySet && !isSet);
      if (!option.hidden) inGroup += 1;
    }
    group.hidden = inGroup === 0;
    shown += inGroup;
  }
  document.getElementById("option-count").textContent = shown === 1 ? "1 option" : `${shown} options`;
}

document.addEventListener("click", (event) => {
  const add = event.target.closest("[data-add-row]");
  if (add) addRow(add);
  const remove = event.target.closest("[data-remove-row]");
  if (remove) removeRow(remove);
});
document.addEventListener("input", (event) => {
  if (event.target.matches("#option-search, #option-only-set")) searchOptions();
});
document.addEventListener("keydown", (event) => {
  // Enter in the search must not save the form.
  if (event.key === "Enter" && event.target.id === "option-search") event.preventDefault();
});

// What was typed must not vanish by a wrong click.
let isDirty = false;
document.addEventListener("input", (event) => {
  if (event.target.closest("#instance-form") && event.target.name) isDirty = true;
});
document.addEventListener("submit", () => (isDirty = false));
document.addEventListener("htmx:beforeRequest", (event) => {
  if (event.detail.elt.id === "instance-form") isDirty = false;
});
document.addEventListener("htmx:afterSwap", (event) => {
  if (event.detail.target.id === "instance-form") isDirty = true; // shown again means not saved yet
});
window.addEventListener("beforeunload", (event) => {
  if (isDirty) event.preventDefault();
});
