// Functions of two variables in three dimensions.

import { Player, element, fit, onRedraw, rgb, slider } from '../controls.js';
import { Entries, functionChoice } from '../entries.js';
import { Race } from '../race.js';

export const tab = 'Surface';
export const title = 'Surface in three dimensions';
export const summary = 'Drag to turn, scroll or pinch to zoom, or use the arrow keys, plus and minus.';

export const defaults = {
  f: 'beale', start: [1, 1.5], turn: 0.6, tilt: 0.75, zoom: 1, speed: 1,
  rules: [{ name: 'sgd', lr: 0.01 }, { name: 'sgd', lr: 0.001, momentum: 0.9 }, { name: 'adam', lr: 0.05, weight_decay: 0 }],
};

/** From the lowest to the highest value: light changes evenly, whichever colours an eye can tell apart. */
const STOPS = ['#00224e', '#35456c', '#7c7b78', '#bcaf6f', '#fee838'].flatMap(rgb);
const HEIGHT = 0.55;
const CELLS = 48;

/** The surface on a 2-D canvas, from the farthest quadrangle to the nearest: without a device. */
class Painter {
  constructor(wasm, canvas, fn) {
    Object.assign(this, { wasm, canvas, fn, paths: [] });
    const values = wasm.field_values(fn.name, CELLS, CELLS);
    const low = Math.min(...values);
    const high = Math.max(...values);
    this.height = fn.logarithmic ? (v) => Math.log1p(Math.max(v - low, 0)) / Math.log1p(high - low) : (v) => (v - low) / (high - low);
    this.heights = Array.from(values, this.height);
  }

  set_paths(numbers) { this.paths = numbers; }

  draw(turn, tilt, zoom) {
    const { width, height } = this.canvas;
    const context = this.canvas.getContext('2d');
    const scale = 0.34 * zoom * Math.min(width, height);
    const project = (u, v, h) => {
      const [x, y] = [u * Math.cos(turn) - v * Math.sin(turn), u * Math.sin(turn) + v * Math.cos(turn)];
      const up = (2 * h - 1) * HEIGHT;
      return [width / 2 + scale * x, height / 2 - scale * (up * Math.cos(tilt) + y * Math.sin(tilt)), y * Math.cos(tilt) - up * Math.sin(tilt)];
    };
    context.clearRect(0, 0, width, height);
    const at = (i) => ((i + 0.5) / CELLS) * 2 - 1;
    const quads = [];
    for (let row = 0; row + 1 < CELLS; row += 1) {
      for (let column = 0; column + 1 < CELLS; column += 1) {
        const corners = [[0, 0], [1, 0], [1, 1], [0, 1]].map(([right, down]) =>
          project(at(column + right), -at(row + down), this.heights[(row + down) * CELLS + column + right]));
        quads.push({ corners, depth: corners.reduce((sum, corner) => sum + corner[2], 0), height: this.heights[row * CELLS + column] });
      }
    }
    quads.sort((a, b) => b.depth - a.depth);
    for (const { corners, height: h } of quads) {
      const place = Math.min(h * 4, 3.999);
      const below = Math.floor(place);
      const part = place - below;
      const ink = [0, 1, 2].map((i) => Math.round(255 * (STOPS[3 * below + i] * (1 - part) + STOPS[3 * below + 3 + i] * part)));
      context.fillStyle = context.strokeStyle = `rgb(${ink})`;
      context.beginPath();
      for (const [x, y] of corners) context.lineTo(x, y);
      context.closePath();
      context.fill();
      context.stroke();
    }
    this.#paths(context, project);
  }

  #paths(context, project) {
    const [[left, right], [bottom, top]] = this.fn.window;
    context.lineWidth = Math.max(2, this.canvas.width / 200);
    let last = null;
    for (let i = 0; i < this.paths.length; i += 7) {
      const [x, y, r, g, b, path, value] = this.paths.slice(i, i + 7);
      const here = project(((x - left) / (right - left)) * 2 - 1, ((y - bottom) / (top - bottom)) * 2 - 1, Math.min(this.height(value), 1));
      if (last && last.path === path) {
        context.strokeStyle = `rgb(${[r, g, b].map((part) => Math.round(part * 255))})`;
        context.beginPath(); context.moveTo(...last.here.slice(0, 2)); context.lineTo(...here.slice(0, 2)); context.stroke();
      }
      last = { path, here };
    }
  }
}

export function create(root, { wasm, device, functions, rules }, state) {
  let fn = functions.find(({ name }) => name === state.get('f')) ?? functions[0];
  const race = new Race(wasm);
  const holder = element('div', { class: 'stack grab', style: 'aspect-ratio: 1.35', tabindex: 0, role: 'application', 'aria-label': 'Surface of the function. Arrow keys turn and tilt it, plus and minus zoom.' });
  const message = element('p', { class: 'error', role: 'alert' });
  let view = null;
  let canvas = null;

  function useView() {
    view?.free?.();
    canvas = element('canvas', { 'aria-hidden': 'true' });
    holder.replaceChildren(canvas);
    fit(canvas);
    try {
      view = device.is_gpu() ? new wasm.SurfaceView(device, canvas, fn.name, Float32Array.from(STOPS)) : new Painter(wasm, canvas, fn);
    } catch (error) { message.textContent = error.message; view = null; }
  }

  /** Points of the paths inside the window. */
  function numbers() {
    const [[left, right], [bottom, top]] = fn.window;
    const all = [];
    for (const { colour: ink, numbers: path, index } of race.paths().map((item, index) => ({ ...item, index }))) {
      const shade = rgb(ink);
      let part = 0;
      for (let at = 0; at < path.length; at += 2) {
        const [x, y] = [path[at], path[at + 1]];
        if (x >= left && x <= right && y >= bottom && y <= top) {
          all.push(x, y, ...shade, index + part / 65536);
          if (!device.is_gpu()) all.push(wasm.value_at(fn.name, x, y));
        } else part += 1;
      }
    }
    return Float32Array.from(all);
  }

  const show = () => { if (view) { fit(canvas); view.draw(state.get('turn'), state.get('tilt'), state.get('zoom')); } };
  function draw() {
    view?.set_paths(numbers());
    show();
    race.results();
  }
  const restart = () => race.reset(fn.name, state.get('rules'), state.get('start'));
  const player = new Player({ step: (count) => race.step(count), draw, reset: restart, speed: state.get('speed'), done: () => race.over, change: (speed) => state.set('speed', speed) });

  function look({ turn = 0, tilt = 0, zoom = 1 }) {
    state.set('turn', Number(((state.get('turn') + turn) % (2 * Math.PI)).toFixed(3)));
    state.set('tilt', Number(Math.min(Math.max(state.get('tilt') + tilt, 0.05), 1.5).toFixed(3)));
    state.set('zoom', Number(Math.min(Math.max(state.get('zoom') * zoom, 0.5), 6).toFixed(3)));
    if (!player.playing) show();
  }
  const fingers = new Map();
  const spread = () => { const [a, b] = [...fingers.values()]; return Math.hypot(a[0] - b[0], a[1] - b[1]); };
  holder.addEventListener('pointerdown', (event) => { holder.setPointerCapture(event.pointerId); fingers.set(event.pointerId, [event.clientX, event.clientY]); });
  holder.addEventListener('pointermove', (event) => {
    const before = fingers.get(event.pointerId);
    if (!before) return;
    const apart = fingers.size === 2 ? spread() : 0;
    fingers.set(event.pointerId, [event.clientX, event.clientY]);
    if (apart) look({ zoom: spread() / apart });
    else look({ turn: (event.clientX - before[0]) / 150, tilt: (event.clientY - before[1]) / 200 });
  });
  for (const end of ['pointerup', 'pointercancel']) holder.addEventListener(end, (event) => fingers.delete(event.pointerId));
  holder.addEventListener('wheel', (event) => { event.preventDefault(); look({ zoom: Math.exp(-event.deltaY / 500) }); }, { passive: false });
  holder.addEventListener('keydown', (event) => {
    const by = {
      ArrowLeft: { turn: -0.1 }, ArrowRight: { turn: 0.1 }, ArrowUp: { tilt: -0.1 }, ArrowDown: { tilt: 0.1 },
      '+': { zoom: 1.15 }, '=': { zoom: 1.15 }, '-': { zoom: 1 / 1.15 },
    }[event.key];
    if (by) { event.preventDefault(); look(by); }
  });

  const entries = new Entries({ rules, functionName: fn.name, values: state.get('rules'), change: (values) => { state.set('rules', values); player.reset(); } });
  const starts = element('div');
  function startControls() {
    starts.replaceChildren(...['x', 'y'].map((axis, index) => slider(`start, ${axis}`, { min: fn.window[index][0], max: fn.window[index][1] }, state.get('start')[index], (value) => {
      state.set('start', state.get('start').map((old, at) => (at === index ? value : old)));
      player.reset();
    })));
  }
  root.append(element('div', { class: 'split' },
    element('div', {}, player.bar, holder, message, race.root),
    element('div', { class: 'panel' },
      functionChoice({ functions, rules, state, entries, change: (next) => {
        fn = next;
        startControls();
        useView();
        player.reset();
      } }),
      starts, element('h3', { textContent: 'Optimizers' }), entries.root)));
  startControls();
  useView();
  restart();
  draw();
  const stop = onRedraw(holder, draw);
  return { player, stop: () => { player.pause(); stop(); view?.free?.(); race.free(); } };
}
