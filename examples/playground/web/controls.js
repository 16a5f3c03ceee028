// Elements and controls that the pages share.

let ids = 0;

/** An element. `options`: properties; `class`, `role`, `aria-…`, `data-…` and `style` as attributes. */
export function element(name, options = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(options)) {
    if (key.startsWith('on')) made.addEventListener(key.slice(2), value);
    else if (key in made && key !== 'style') made[key] = value;
    else made.setAttribute(key, value);
  }
  made.append(...children.filter((child) => child != null));
  return made;
}

/** A number for people. */
export function shown(value, digits = 4) {
  if (value == null) return '–';
  if (!Number.isFinite(value)) return Number.isNaN(value) ? 'not a number' : value > 0 ? '∞' : '−∞';
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-3 || size >= 1e6)) return value.toExponential(2).replace('-', '−');
  return String(Number(value.toPrecision(digits))).replace('-', '−');
}

function field(label, control, extra) {
  control.id = `control${(ids += 1)}`;
  return element('div', { class: 'field' }, element('label', { htmlFor: control.id, textContent: label }), control, extra);
}

/** A choice; `options` are texts, or pairs of value and text. */
export function select(label, options, value, change) {
  const made = options.map((option) => {
    const [key, shownAs] = Array.isArray(option) ? option : [option, option];
    return element('option', { value: key, textContent: shownAs, selected: String(key) === String(value) });
  });
  const control = element('select', { onchange: () => change(control.value) }, ...made);
  return field(label, control);
}

/** A slider with a number beside it. With `log`, the slider moves by factors. */
export function slider(label, { min, max, step, log = false }, value, change) {
  const to = (number) => (log ? Math.log10(Math.max(number, min)) : number);
  const from = (number) => (log ? Number((10 ** number).toPrecision(3)) : number);
  const range = element('input', {
    type: 'range', min: to(min), max: to(max), step: log ? 0.01 : (step ?? (max - min) / 200), value: to(value),
    oninput: () => { const next = from(Number(range.value)); number.value = next; range.setAttribute('aria-valuetext', next); change(next); },
  });
  // Assigned again: it was clamped to the limits before they were set.
  range.value = to(value);
  const number = element('input', {
    type: 'number', step: 'any', value, 'aria-label': `${label}, as a number`,
    onchange: () => { const next = Number(number.value); if (number.value !== '' && Number.isFinite(next)) { range.value = to(next); change(next); } },
  });
  return field(label, range, number);
}

export function text(label, value, change, type = 'text') {
  const control = element('input', { type, value, step: 'any', spellcheck: false, onchange: () => change(control.value) });
  return field(label, control);
}

export function check(label, value, change) {
  const control = element('input', { type: 'checkbox', checked: value, onchange: () => change(control.checked) });
  return element('label', { class: 'check' }, control, label);
}

/** Controls for the fields of a form of the crate. `change` gets the field's name and its value. */
export function form(fields, values, change) {
  return fields.map(({ name, default: usual, choices }) => {
    const value = values[name] ?? usual;
    const set = (next) => change(name, next);
    if (typeof usual === 'boolean') return element('div', { class: 'row' }, check(name, value, set));
    if (choices.length) return select(name, choices, value, set);
    if (typeof usual === 'number') return text(name, value, (next) => set(Number(next)), 'number');
    if (usual === null) return text(name, value ?? '', (next) => set(next === '' ? null : Number(next)), 'number');
    return text(name, JSON.stringify(value), (next) => { try { set(JSON.parse(next)); } catch { set(next); } });
  });
}

const still = matchMedia('(prefers-reduced-motion: reduce)');
/** Milliseconds between two pictures where less motion is wanted. */
const STILL_MS = 400;

/**
 * Play, step and reset. `step(count)` takes steps, `draw()` shows them, `reset()` starts anew; `done()` ends playing. Nothing
 * plays before it is asked to.
 */
export class Player {
  #frame = 0;
  #last = 0;
  #times = [];

  constructor({ step, draw, reset, done = () => false, speed = 1, speeds = [1, 2, 5, 10, 20, 50], change = () => {} }) {
    Object.assign(this, { step, draw, done, speed });
    this.restart = reset;
    this.button = element('button', { class: 'primary', textContent: 'Play', 'data-play': '', onclick: () => this.toggle() });
    this.rate = element('span', { class: 'muted', 'aria-hidden': 'true' });
    this.bar = element('div', { class: 'row', role: 'group', 'aria-label': 'Playing' },
      this.button,
      element('button', { textContent: 'Step', 'data-step': '', onclick: () => { this.pause(); this.advance(1); } }),
      element('button', { textContent: 'Reset', 'data-reset': '', onclick: () => this.reset() }),
      element('label', { class: 'check' }, 'steps per picture ', element('select', {
        style: 'width: auto', 'data-speed': '', onchange: (event) => { this.speed = Number(event.target.value); change(this.speed); },
      }, ...speeds.map((count) => element('option', { value: count, textContent: count, selected: count === speed })))),
      this.rate);
  }

  get playing() { return this.#frame !== 0; }

  advance(count) {
    this.step(count);
    this.draw();
  }

  toggle() { if (this.playing) this.pause(); else this.play(); }

  play() {
    if (this.playing) return;
    this.button.textContent = 'Pause';
    this.#times = [];
    this.#last = 0;
    const next = (now) => {
      this.#frame = requestAnimationFrame(next);
      if (still.matches && now - this.#last < STILL_MS) return;
      const pictures = still.matches && this.#last ? Math.round((now - this.#last) / 16.7) : 1;
      this.#last = now;
      this.advance(this.speed * pictures);
      this.#times.push(now);
      if (this.#times.length > 30) this.#times.shift();
      const seconds = (now - this.#times[0]) / 1000;
      if (seconds > 0.3) this.rate.textContent = `${Math.round((this.#times.length - 1) / seconds)} pictures/s`;
      if (this.done()) this.pause();
    };
    this.#frame = requestAnimationFrame(next);
  }

  /** Pictures per second of late. */
  get pictures() { return Number.parseInt(this.rate.textContent, 10) || 0; }

  pause() {
    cancelAnimationFrame(this.#frame);
    this.#frame = 0;
    this.button.textContent = 'Play';
  }

  reset() {
    this.pause();
    this.restart();
    this.draw();
  }
}

/** Asks for a redraw when an element changes its size, or the colours of the page change. */
export function onRedraw(target, redraw) {
  const observer = new ResizeObserver(redraw);
  observer.observe(target);
  dark.addEventListener('change', redraw);
  return () => { observer.disconnect(); dark.removeEventListener('change', redraw); };
}

const dark = matchMedia('(prefers-color-scheme: dark)');
/** Colours that were read: asking for a style computes the page's. */
const colours = new Map();
dark.addEventListener('change', () => colours.clear());

/** A colour of the style sheet. */
export function colour(name) {
  if (!colours.has(name)) colours.set(name, getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim());
  return colours.get(name);
}

/** Red, green and blue from 0 to 1 of `#rrggbb`. */
export const rgb = (hex) => [1, 3, 5].map((at) => Number.parseInt(hex.slice(at, at + 2), 16) / 255);

export const PALETTE = ['c0', 'c1', 'c2', 'c3', 'c4', 'c5'];

/** The context of a canvas with few lines. The CPU draws them: drivers without a GPU take several times as long. */
export const lines = (canvas) => canvas.getContext('2d', { willReadFrequently: true });

/** Gives a canvas the pixels of its place on the page; returns them, and its context. */
export function fit(canvas) {
  const scale = Math.min(devicePixelRatio || 1, 2);
  const width = Math.max(1, Math.round(canvas.clientWidth * scale));
  const height = Math.max(1, Math.round(canvas.clientHeight * scale));
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
  return { width, height, scale };
}
