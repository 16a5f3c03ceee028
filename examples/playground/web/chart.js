// Curves on a canvas.

import { colour, element, fit, lines, onRedraw, shown } from './controls.js';

/** Round numbers from low to high. */
function ticks(low, high, count) {
  const raw = (high - low) / count;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((candidate) => candidate >= raw) ?? raw;
  const found = [];
  for (let at = Math.ceil(low / step) * step; at <= high + step / 1e6; at += step) found.push(Math.abs(at) < step / 1e6 ? 0 : at);
  return found;
}

/**
 * A chart. `curves`: `{ colour, points: [[x, y], …], dots, radius, dash, wide }`; infinite and missing values break a curve. `log`: y by
 * powers of ten. `marks`: vertical lines at x. `pointer(x)`: texts for a place under the pointer.
 */
export class Chart {
  #at = null;

  constructor({ label, height = 180, log = false, x = 'step', y = '', pointer = null, range = null }) {
    Object.assign(this, { log, x, y, pointer, range, curves: [], marks: [] });
    this.canvas = element('canvas', { class: 'chart', style: `height: ${height}px`, role: 'img', 'aria-label': label });
    this.canvas.addEventListener('pointermove', (event) => { this.#at = event.offsetX; if (this.pointer) this.draw(); });
    this.canvas.addEventListener('pointerleave', () => { this.#at = null; if (this.pointer) this.draw(); });
    this.stop = onRedraw(this.canvas, () => this.draw());
  }

  set(curves) {
    this.curves = curves;
    this.draw();
  }

  #limits() {
    let [left, right, low, high] = [Infinity, -Infinity, Infinity, -Infinity];
    for (const { points } of this.curves) {
      for (const [x, y] of points) {
        if (!Number.isFinite(x) || !Number.isFinite(y) || (this.log && y <= 0)) continue;
        left = Math.min(left, x); right = Math.max(right, x); low = Math.min(low, y); high = Math.max(high, y);
      }
    }
    if (this.range) [left, right, low, high] = this.range;
    if (!(left <= right)) [left, right] = [0, 1];
    if (!(low <= high)) [low, high] = this.log ? [0.1, 1] : [0, 1];
    if (left === right) right = left + 1;
    if (this.log) {
      [low, high] = [Math.log10(low), Math.log10(high)];
      if (high - low < 0.5) [low, high] = [low - 0.25, high + 0.25];
    } else if (low === high) [low, high] = [low - 0.5, high + 0.5];
    if (!this.range) { const room = (high - low) * 0.06; low -= room; high += room; }
    return [left, right, low, high];
  }

  draw() {
    const { width, height, scale } = fit(this.canvas);
    const context = lines(this.canvas);
    const [left, right, low, high] = this.#limits();
    const [x0, x1, y0, y1] = [58 * scale, width - 10 * scale, height - 34 * scale, 8 * scale];
    const px = (x) => x0 + ((x - left) / (right - left)) * (x1 - x0);
    const py = (y) => y0 + (((this.log ? Math.log10(y) : y) - low) / (high - low)) * (y1 - y0);
    Object.assign(this, { px, py, box: [x0, x1, y0, y1], scale });
    this.from = (offset) => left + ((offset * scale - x0) / (x1 - x0)) * (right - left);
    context.clearRect(0, 0, width, height);
    context.font = `${11 * scale}px system-ui, sans-serif`;
    context.lineWidth = scale;
    context.strokeStyle = colour('line');
    context.fillStyle = colour('muted');
    context.textAlign = 'center';
    for (const at of ticks(left, right, Math.max(2, Math.floor((x1 - x0) / (70 * scale))))) {
      context.globalAlpha = 0.6;
      context.beginPath(); context.moveTo(px(at), y0); context.lineTo(px(at), y1); context.stroke();
      context.globalAlpha = 1;
      context.fillText(shown(at), px(at), y0 + 14 * scale);
    }
    context.textAlign = 'right';
    const rows = Math.max(2, Math.floor((y0 - y1) / (34 * scale)));
    const marks = this.log && high - low > 1.5
      ? ticks(low, high, rows).filter(Number.isInteger).map((power) => 10 ** power)
      : ticks(low, high, rows).map((at) => (this.log ? 10 ** at : at));
    for (const at of marks) {
      context.globalAlpha = 0.6;
      context.beginPath(); context.moveTo(x0, py(at)); context.lineTo(x1, py(at)); context.stroke();
      context.globalAlpha = 1;
      context.fillText(shown(at, 3), x0 - 6 * scale, py(at) + 4 * scale);
    }
    context.textAlign = 'right';
    context.fillText(this.x, x1, y0 + 28 * scale);
    context.save();
    context.translate(11 * scale, y1); context.rotate(-Math.PI / 2);
    context.fillText(this.y, 0, 0);
    context.restore();
    context.save();
    context.beginPath(); context.rect(x0, y1 - 3 * scale, x1 - x0, y0 - y1 + 6 * scale); context.clip();
    for (const at of this.marks) {
      context.strokeStyle = colour('muted');
      context.setLineDash([3 * scale, 3 * scale]);
      context.beginPath(); context.moveTo(px(at), y0); context.lineTo(px(at), y1); context.stroke();
      context.setLineDash([]);
    }
    for (const curve of this.curves) this.#curve(context, curve, px, py, scale);
    if (this.pointer && this.#at !== null) this.#readout(context, px, scale, x0, x1, y0, y1);
    context.restore();
  }

  #curve(context, { points, colour: ink, dots, dash, wide = 2, radius = 2.5 }, px, py, scale) {
    context.strokeStyle = ink;
    context.fillStyle = ink;
    context.lineWidth = wide * scale;
    context.lineJoin = 'round';
    context.setLineDash(dash ? [6 * scale, 4 * scale] : []);
    const usable = ([x, y]) => Number.isFinite(x) && Number.isFinite(y) && (!this.log || y > 0);
    if (points.length > 1) {
      context.beginPath();
      let drawing = false;
      for (const point of points) {
        if (!usable(point)) { drawing = false; continue; }
        if (drawing) context.lineTo(px(point[0]), py(point[1])); else context.moveTo(px(point[0]), py(point[1]));
        drawing = true;
      }
      context.stroke();
    }
    context.setLineDash([]);
    if (dots) {
      for (const point of points.filter(usable)) {
        context.beginPath(); context.arc(px(point[0]), py(point[1]), radius * scale, 0, 7); context.fill();
      }
    }
  }

  #readout(context, px, scale, x0, x1, y0, y1) {
    const x = this.from(this.#at);
    if (px(x) < x0 || px(x) > x1) return;
    const lines = this.pointer(x);
    context.strokeStyle = colour('ink');
    context.lineWidth = scale;
    context.beginPath(); context.moveTo(px(x), y0); context.lineTo(px(x), y1); context.stroke();
    context.font = `${12 * scale}px system-ui, sans-serif`;
    const wide = Math.max(...lines.map(([line]) => context.measureText(line).width)) + 16 * scale;
    const at = px(x) + wide + 8 * scale > x1 ? px(x) - wide - 6 * scale : px(x) + 6 * scale;
    context.fillStyle = colour('panel');
    context.fillRect(at, y1, wide, (lines.length * 16 + 8) * scale);
    context.textAlign = 'left';
    lines.forEach(([line, ink], index) => {
      context.fillStyle = ink ?? colour('ink');
      context.fillText(line, at + 8 * scale, y1 + (17 + 16 * index) * scale);
    });
  }
}
