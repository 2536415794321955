// Shows a long list of lines by making elements only for those in sight. Heights are computed, never measured: the
// font is monospaced and lines break anywhere, so a line of n columns takes ceil(n / columns) rows.

import { widthOf } from "./log-text.js";

const OVERSCAN = 40; // rows made above and below, so that scrolling and selecting stay smooth

export class LogList {
  constructor(view, buffer) {
    this.view = view;
    this.space = view.querySelector(".log-space");
    this.rows = view.querySelector(".log-rows");
    this.buffer = buffer;
    this.tops = [0]; // tops[i]: rows above shown[i]; one more than there are lines
    this.wrap = true;
    this.times = false;
    this.find = "";
    this.current = null; // the match that was jumped to
    this.elements = new Map();
    this.frame = 0;
    this.measure();
    new ResizeObserver(() => {
      if (this.measure()) this.relayout();
      else this.draw();
    }).observe(view);
  }

  /** Learn the size of a character and how many fit; return whether that changed. */
  measure() {
    const probe = document.createElement("div");
    probe.className = "log-line log-probe";
    probe.textContent = "0".repeat(100);
    this.rows.append(probe);
    const width = probe.getBoundingClientRect().width / 100 || 8;
    this.rowHeight = probe.getBoundingClientRect().height || 18;
    probe.remove();
    const padding = 24; // that of .log-line
    const columns = Math.max(10, Math.floor((this.view.clientWidth - padding) / width));
    const changed = columns !== this.columns;
    this.columns = columns;
    return changed;
  }

  rowsOf(line) {
    if (!this.wrap) return 1;
    const stamp = this.times && line.time ? 13 : 0; // "12:34:56.789 "
    return Math.max(1, Math.ceil((widthOf(line.text) + stamp) / this.columns));
  }

  get count() {
    return this.tops.length - 1;
  }

  get total() {
    return this.tops[this.count] - this.tops[0];
  }

  /** Lay out everything anew, keeping the first line in sight where it is. */
  relayout() {
    const anchor = this.buffer.shown[this.indexAt(this.view.scrollTop)];
    this.tops = [0];
    this.buffer.droppedShown = 0;
    this.extend();
    if (anchor) {
      const index = this.buffer.shown.indexOf(anchor);
      if (index >= 0) this.view.scrollTop = (this.tops[index] - this.tops[0]) * this.rowHeight;
    }
    this.clear();
    this.draw();
  }

  /** Take lines into account that were cut off at the front, appended, or changed. */
  update(changed) {
    const { shown } = this.buffer;
    const cut = this.buffer.droppedShown;
    this.buffer.droppedShown = 0;
    if (cut) {
      const removed = this.tops[Math.min(cut, this.count)] - this.tops[0];
      this.tops.splice(0, Math.min(cut, this.count));
      // What is read stays where it is on the screen although the list got shorter above it.
      if (!this.follows) this.view.scrollTop -= removed * this.rowHeight;
    }
    if (changed) {
      // Only the last few lines can still be unfinished.
      this.tops.length = Math.max(1, Math.min(this.tops.length, shown.length - 300 + 1));
    }
    this.extend();
    this.draw();
  }

  extend() {
    const { shown } = this.buffer;
    for (let index = this.count; index < shown.length; index += 1) {
      this.tops.push(this.tops[index] + this.rowsOf(shown[index]));
    }
  }

  /** Return the index of the line at a distance in pixels from the top. */
  indexAt(pixels) {
    const row = this.tops[0] + Math.floor(pixels / this.rowHeight);
    let low = 0;
    let high = Math.max(0, this.count - 1);
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (this.tops[middle] <= row) low = middle;
      else high = middle - 1;
    }
    return low;
  }

  draw() {
    if (!this.frame) this.frame = requestAnimationFrame(() => this.drawNow());
  }

  drawNow() {
    this.frame = 0;
    const { shown } = this.buffer;
    this.space.style.height = `${this.total * this.rowHeight}px`;
    if (this.follows) this.view.scrollTop = this.view.scrollHeight;
    const reach = OVERSCAN * this.rowHeight;
    const first = this.indexAt(Math.max(0, this.view.scrollTop - reach));
    const last = Math.min(this.count - 1, this.indexAt(this.view.scrollTop + this.view.clientHeight + reach));
    const wanted = new Set(shown.slice(first, last + 1));
    for (const [line, element] of this.elements) {
      if (wanted.has(line)) continue;
      element.remove();
      this.elements.delete(line);
    }
    let before = null; // elements that stay are not touched, so a selection in them survives
    for (let index = first; index <= last; index += 1) {
      const line = shown[index];
      let element = this.elements.get(line);
      if (!element || element.version !== line.version || element.find !== this.find) {
        const made = this.make(line);
        if (element) element.replaceWith(made);
        element = made;
        this.elements.set(line, made);
      }
      element.classList.toggle("is-current", line === this.current);
      const rows = this.tops[index + 1] - this.tops[index];
      element.style.height = `${rows * this.rowHeight}px`;
      const next = before ? before.nextSibling : this.rows.firstChild;
      if (element !== next) this.rows.insertBefore(element, next);
      before = element;
    }
    this.rows.style.transform = `translateY(${((this.tops[first] ?? 0) - this.tops[0]) * this.rowHeight}px)`;
  }

  make(line) {
    const element = document.createElement("div");
    element.className = `log-line ${line.kind === "note" ? "log-note" : `log-${line.stream}`} ${line.level && `log-${line.level}`}`;
    element.version = line.version;
    element.find = this.find;
    if (this.times && line.time) {
      const stamp = document.createElement("span");
      stamp.className = "log-time";
      stamp.textContent = `${clockOf(line.time)} `;
      element.append(stamp);
    }
    let at = 0;
    for (const [length, classes] of line.spans ?? [[line.text.length, ""]]) {
      this.mark(element, line.text.slice(at, at + length), classes);
      at += length;
    }
    if (at < line.text.length) this.mark(element, line.text.slice(at), "");
    if (!line.text) element.append("\u200b"); // an empty line can be selected and copied too
    return element;
  }

  mark(parent, text, classes) {
    const target = classes ? parent.appendChild(document.createElement("span")) : parent;
    if (classes) target.className = classes;
    const lower = this.find ? text.toLowerCase() : "";
    let at = 0;
    while (this.find) {
      const found = lower.indexOf(this.find, at);
      if (found < 0) break;
      target.append(text.slice(at, found));
      const hit = target.appendChild(document.createElement("mark"));
      hit.textContent = text.slice(found, found + this.find.length);
      at = found + this.find.length;
    }
    target.append(text.slice(at));
  }

  clear() {
    this.elements.clear();
    this.rows.replaceChildren();
  }

  show(index) {
    const middle = this.view.clientHeight / 2;
    this.view.scrollTop = Math.max(0, (this.tops[index] - this.tops[0]) * this.rowHeight - middle);
    this.draw();
  }
}

function clockOf(time) {
  const moment = new Date(time);
  if (Number.isNaN(moment.getTime())) return "            ";
  const two = (number) => String(number).padStart(2, "0");
  const millis = String(moment.getMilliseconds()).padStart(3, "0");
  return `${two(moment.getHours())}:${two(moment.getMinutes())}:${two(moment.getSeconds())}.${millis}`;
}
