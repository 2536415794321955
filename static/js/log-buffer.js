// The last lines of a log, as they came over the socket: a ring with a bound, and which of them are shown.

import { collapse, expandTabs, levelOf, readAnsi } from "./log-text.js";

const LONGEST = 4000; // characters of a line that are shown; the download has all of them
const SLACK = 2000; // the front is cut off in pieces, as removing it costs as much as the whole

export class LogBuffer {
  constructor(capacity) {
    this.capacity = capacity;
    this.lines = []; // everything kept
    this.shown = []; // those of the wanted stream
    this.stream = "";
    this.dropped = 0; // lines that fell out at the front
    this.droppedShown = 0;
    this.open = new Map(); // for each stream the line that still goes on
  }

  /** Take one entry `[stream, time, text, goes on]`; return whether an existing line changed. */
  add([stream, time, text, goesOn]) {
    const unfinished = this.open.get(stream);
    let changed = false;
    if (unfinished) {
      unfinished.raw = (unfinished.raw + text).slice(-4 * LONGEST);
      this.fill(unfinished);
      changed = true;
    }
    const line = unfinished ?? this.append({ kind: "line", stream, time, raw: text });
    if (goesOn) this.open.set(stream, line);
    else {
      this.open.delete(stream);
      line.raw = ""; // only unfinished lines need what they were made of
    }
    return changed;
  }

  /** Add a remark of ours, such as a gap. */
  note(text) {
    this.open.clear();
    this.append({ kind: "note", stream: "", time: "", raw: text });
  }

  append(line) {
    this.fill(line);
    this.lines.push(line);
    if (this.isShown(line)) this.shown.push(line);
    if (this.lines.length > this.capacity + SLACK) this.cut(this.lines.length - this.capacity);
    return line;
  }

  cut(count) {
    const gone = this.lines.splice(0, count).filter((line) => this.isShown(line)).length;
    this.shown.splice(0, gone);
    this.dropped += count;
    this.droppedShown += gone;
  }

  fill(line) {
    const { text, spans } = readAnsi(collapse(line.raw));
    const expanded = spans ? text.replaceAll("\t", " ") : expandTabs(text); // spans count characters
    line.text = expanded.length > LONGEST ? `${expanded.slice(0, LONGEST)} … ${expanded.length - LONGEST} more characters` : expanded;
    line.spans = spans;
    line.level = line.kind === "note" ? "" : levelOf(line.text);
    line.version = (line.version ?? 0) + 1;
  }

  isShown(line) {
    return !this.stream || line.kind === "note" || line.stream === this.stream;
  }

  showStream(stream) {
    this.stream = stream;
    this.shown = this.lines.filter((line) => this.isShown(line));
    this.droppedShown = 0;
  }
}
