// A function of two variables from above: its values as greys with contour lines, paths over them, and a start to move.

import { colour, element, fit, lines, onRedraw, rgb } from './controls.js';

const LINES = 14;

export class Plane {
  /** `fn`: a description of the crate. `pick(x, y)`: a start was chosen; `null` if none may be. */
  constructor(wasm, fn, { label, pick = null, middle = [] }) {
    Object.assign(this, { wasm, fn, paths: [], start: null, minima: true });
    this.back = element('canvas', { 'aria-hidden': 'true' });
    this.top = element('canvas', { role: 'img', 'aria-label': label });
    const [[left, right], [bottom, top]] = fn.window;
    this.root = element('div', { class: 'stack', style: `aspect-ratio: ${Math.max((right - left) / (top - bottom), 1)}` }, this.back, ...middle, this.top);
    if (pick) this.#picking(pick);
    this.stop = onRedraw(this.root, () => { this.background(); this.draw(); });
  }

  #picking(pick) {
    const [[left, right], [bottom, top]] = this.fn.window;
    const at = (event) => {
      const box = this.top.getBoundingClientRect();
      const x = left + ((event.clientX - box.left) / box.width) * (right - left);
      const y = top - ((event.clientY - box.top) / box.height) * (top - bottom);
      return [Math.min(Math.max(x, left), right), Math.min(Math.max(y, bottom), top)].map((number) => Number(number.toPrecision(4)));
    };
    let held = false;
    Object.assign(this.top, { tabIndex: 0 });
    this.top.setAttribute('role', 'application');
    this.top.setAttribute('aria-label', `${this.top.getAttribute('aria-label')} Click, drag, or press the arrow keys to move the start.`);
    this.top.style.cursor = 'crosshair';
    this.top.addEventListener('pointerdown', (event) => { held = true; this.top.setPointerCapture(event.pointerId); pick(...at(event), false); });
    this.top.addEventListener('pointermove', (event) => { if (held) pick(...at(event), false); });
    this.top.addEventListener('pointerup', (event) => { if (held) { held = false; pick(...at(event), true); } });
    this.top.addEventListener('pointercancel', () => { held = false; });
    this.top.addEventListener('keydown', (event) => {
      const by = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key];
      if (!by || !this.start) return;
      event.preventDefault();
      pick(Number((this.start[0] + by[0] * (right - left) / 50).toPrecision(4)), Number((this.start[1] + by[1] * (top - bottom) / 50).toPrecision(4)), true);
    });
  }

  /** Pixels of a point. */
  place(x, y) {
    const [[left, right], [bottom, top]] = this.fn.window;
    return [((x - left) / (right - left)) * this.top.width, ((top - y) / (top - bottom)) * this.top.height];
  }

  background() {
    fit(this.back);
    const { width, height } = this.back;
    const columns = Math.min(width, 640);
    const rows = Math.max(1, Math.round((height / width) * columns));
    const values = this.wasm.field_values(this.fn.name, columns, rows);
    let [low, high] = [Infinity, -Infinity];
    for (const value of values) { if (value < low) low = value; if (value > high) high = value; }
    const scaled = this.fn.logarithmic ? (value) => Math.log1p(value - low) / Math.log1p(high - low) : (value) => (value - low) / (high - low);
    const [from, to, line] = ['field-low', 'field-high', 'contour'].map((name) => rgb(colour(name)).map((part) => part * 255));
    const heights = Float32Array.from(values, scaled);
    const image = new ImageData(columns, rows);
    for (let row = 0; row < rows; row += 1) {
      for (let column = 0; column < columns; column += 1) {
        const at = row * columns + column;
        const level = Math.floor(heights[at] * LINES);
        const right = column + 1 < columns ? Math.floor(heights[at + 1] * LINES) : level;
        const below = row + 1 < rows ? Math.floor(heights[at + columns] * LINES) : level;
        const edge = level !== right || level !== below;
        for (let part = 0; part < 3; part += 1) {
          image.data[4 * at + part] = edge ? line[part] : from[part] + (to[part] - from[part]) * heights[at];
        }
        image.data[4 * at + 3] = 255;
      }
    }
    const source = new OffscreenCanvas(columns, rows);
    source.getContext('2d').putImageData(image, 0, 0);
    const context = this.back.getContext('2d');
    context.imageSmoothingQuality = 'high';
    context.drawImage(source, 0, 0, width, height);
  }

  /** `paths`: `{ colour, numbers, diverged }` with x and y of each point; drawn over everything else. */
  set(paths, start) {
    const isSame = paths.length === 0 && this.paths.length === 0 && start === this.start;
    this.paths = paths;
    this.start = start;
    if (!isSame) this.draw();
  }

  draw() {
    const { scale } = fit(this.top);
    const context = lines(this.top);
    context.clearRect(0, 0, this.top.width, this.top.height);
    context.lineJoin = 'round';
    for (const [x, y] of this.minima ? this.fn.minima : []) this.#star(context, ...this.place(x, y), 7 * scale);
    for (const { numbers, colour: ink } of this.paths) {
      for (const [wide, style] of [[4.5, colour('paper')], [2.5, ink]]) {
        context.lineWidth = wide * scale;
        context.strokeStyle = style;
        context.beginPath();
        for (let at = 0; at + 1 < numbers.length; at += 2) {
          const [x, y] = this.place(numbers[at], numbers[at + 1]);
          if (!Number.isFinite(x + y) || Math.abs(x) + Math.abs(y) > 1e6) break;
          if (at) context.lineTo(x, y); else context.moveTo(x, y);
        }
        context.stroke();
      }
    }
    for (const { numbers, colour: ink, diverged } of this.paths) {
      const [x, y] = this.place(numbers.at(-2), numbers.at(-1));
      context.fillStyle = ink;
      context.strokeStyle = colour('paper');
      context.lineWidth = 2 * scale;
      const outside = !(x >= 0 && y >= 0 && x <= this.top.width && y <= this.top.height);
      if (diverged || outside) this.#leaving(context, numbers, ink, scale);
      else { context.beginPath(); context.arc(x, y, 6 * scale, 0, 7); context.fill(); context.stroke(); }
    }
    if (this.start) {
      const [x, y] = this.place(...this.start);
      context.strokeStyle = colour('ink');
      context.lineWidth = 2 * scale;
      context.beginPath(); context.arc(x, y, 8 * scale, 0, 7); context.stroke();
    }
  }

  // A cross at the edge, where the point has left the picture.
  #leaving(context, numbers, ink, scale) {
    let inside = [this.top.width / 2, this.top.height / 2];
    for (let at = 0; at + 1 < numbers.length; at += 2) {
      const [x, y] = this.place(numbers[at], numbers[at + 1]);
      if (!Number.isFinite(x + y)) break;
      inside = [Math.min(Math.max(x, 12 * scale), this.top.width - 12 * scale), Math.min(Math.max(y, 12 * scale), this.top.height - 12 * scale)];
    }
    for (const [wide, style] of [[6, colour('paper')], [3, ink]]) {
      context.strokeStyle = style;
      context.lineWidth = wide * scale;
      const by = 7 * scale;
      context.beginPath();
      context.moveTo(inside[0] - by, inside[1] - by); context.lineTo(inside[0] + by, inside[1] + by);
      context.moveTo(inside[0] + by, inside[1] - by); context.lineTo(inside[0] - by, inside[1] + by);
      context.stroke();
    }
  }

  #star(context, x, y, radius) {
    context.fillStyle = colour('ink');
    context.beginPath();
    for (let i = 0; i < 10; i += 1) {
      const size = i % 2 ? radius * 0.42 : radius;
      context.lineTo(x + size * Math.sin((i * Math.PI) / 5), y - size * Math.cos((i * Math.PI) / 5));
    }
    context.closePath();
    context.fill();
  }
}
