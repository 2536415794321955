// What a line of a log looks like: colours by ANSI escape codes (ECMA-48, SGR), progress bars collapsed, its level.

const SEQUENCE = /\x1b(?:\[([0-9;:]*)([A-Za-z~])|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\-_])/g;
const CONTROL = /[\x00-\x08\x0b-\x1a\x1c-\x1f\x7f]/g;
const ERROR = /\b(error|fatal|critical|exception|traceback|panic|failed)\b/i;
const WARNING = /\bwarn(ing)?\b/i;
const DEBUG = /\b(debug|trace)\b/i;
const HEAD = 100; // the level stands near the beginning; further on the words are prose
const TAB = 8;

// The sixteen colours as red, green, blue, to find the nearest one for the 256 and 16 million others.
const PALETTE = [
  [0, 0, 0], [205, 49, 49], [13, 188, 121], [180, 160, 16], [36, 114, 200], [188, 63, 188], [17, 168, 205], [200, 200, 200],
  [102, 102, 102], [241, 76, 76], [35, 209, 139], [245, 245, 67], [59, 142, 234], [214, 112, 214], [41, 184, 219], [255, 255, 255],
];

function nearest(red, green, blue) {
  let best = 0;
  let least = Infinity;
  PALETTE.forEach(([r, g, b], index) => {
    const distance = (r - red) ** 2 + (g - green) ** 2 + (b - blue) ** 2;
    if (distance < least) [best, least] = [index, distance];
  });
  return best;
}

function colourOf(codes) {
  // Behind 38 or 48: "5;n" is one of 256, "2;r;g;b" is exact.
  if (codes[0] === 2) {
    codes.shift();
    return nearest(...codes.splice(0, 3).map((value) => value || 0));
  }
  codes.shift();
  const number = codes.shift() || 0;
  if (number < 16) return number;
  if (number >= 232) return nearest(...Array(3).fill(8 + (number - 232) * 10));
  const level = (step) => (step ? 55 + step * 40 : 0);
  const cube = number - 16;
  return nearest(level(Math.floor(cube / 36)), level(Math.floor(cube / 6) % 6), level(cube % 6));
}

function applyCodes(style, text) {
  const codes = text.split(/[;:]/).map(Number);
  while (codes.length) {
    const code = codes.shift();
    if (code === 0) style = {};
    else if (code === 1) style = { ...style, bold: true };
    else if (code === 2) style = { ...style, dim: true };
    else if (code === 3) style = { ...style, italic: true };
    else if (code === 4) style = { ...style, underline: true };
    else if (code === 22) style = { ...style, bold: false, dim: false };
    else if (code === 23) style = { ...style, italic: false };
    else if (code === 24) style = { ...style, underline: false };
    else if (code >= 30 && code <= 37) style = { ...style, front: code - 30 };
    else if (code >= 90 && code <= 97) style = { ...style, front: code - 82 };
    else if (code === 39) style = { ...style, front: undefined };
    else if (code >= 40 && code <= 47) style = { ...style, back: code - 40 };
    else if (code >= 100 && code <= 107) style = { ...style, back: code - 92 };
    else if (code === 49) style = { ...style, back: undefined };
    else if (code === 38) style = { ...style, front: colourOf(codes) };
    else if (code === 48) style = { ...style, back: colourOf(codes) };
  }
  return style;
}

function classesOf(style) {
  const names = ["bold", "dim", "italic", "underline"].filter((name) => style[name]).map((name) => `ansi-${name}`);
  if (style.front !== undefined) names.push(`ansi-front-${style.front}`);
  if (style.back !== undefined) names.push(`ansi-back-${style.back}`);
  return names.join(" ");
}

/** Split a line into its plain text and its spans `[length, classes]`; no spans when it has no colours. */
export function readAnsi(raw) {
  if (!raw.includes("\x1b")) return { text: raw.replace(CONTROL, ""), spans: null };
  let text = "";
  let style = {};
  let at = 0;
  const spans = [];
  const add = (piece) => {
    const plain = piece.replaceAll("\x1b", "").replace(CONTROL, "");
    if (!plain) return;
    text += plain;
    spans.push([plain.length, classesOf(style)]);
  };
  for (const found of raw.matchAll(SEQUENCE)) {
    add(raw.slice(at, found.index));
    at = found.index + found[0].length;
    if (found[2] === "m") style = applyCodes(style, found[1]);
  }
  add(raw.slice(at));
  return { text, spans: spans.some(([, classes]) => classes) ? spans : null };
}

/** Return what a terminal would show of a line in which carriage returns go back to its beginning. */
export function collapse(raw) {
  if (!raw.includes("\r")) return raw;
  const states = raw.split("\r").filter(Boolean);
  return states.length ? states[states.length - 1] : "";
}

/** Replace tabs by spaces, so that every character has one width. */
export function expandTabs(text) {
  if (!text.includes("\t")) return text;
  let out = "";
  for (const piece of text.split(/(\t)/)) out += piece === "\t" ? " ".repeat(TAB - (out.length % TAB)) : piece;
  return out;
}

/** Return "error", "warning", "debug" or nothing. */
export function levelOf(text) {
  const head = text.slice(0, HEAD);
  if (ERROR.test(head)) return "error";
  if (WARNING.test(head)) return "warning";
  return DEBUG.test(head) ? "debug" : "";
}

const WIDE = /[\u1100-\u115f\u2e80-\ua4cf\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe6f\uff00-\uff60\uffe0-\uffe6]|[\ud83c-\ud83e][\udc00-\udfff]|[\ud840-\ud87f][\udc00-\udfff]/g;
const ASCII = /^[\x20-\x7e]*$/;

/** Return how many columns of a monospaced font a text takes, roughly: East Asian characters and pictures take two. */
export function widthOf(text) {
  if (ASCII.test(text)) return text.length;
  const wide = text.match(WIDE);
  return [...text].length + (wide ? wide.length : 0);
}
