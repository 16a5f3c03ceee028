// Functions of two variables from above: a race from one start, and a cloud of thousands.

import { PALETTE, Player, colour, element, fit, onRedraw, rgb, select } from '../controls.js';
import { Entries, description, functionChoice } from '../entries.js';
import { Plane } from '../plane.js';
import { Race } from '../race.js';

export const tab = 'Contours';
export const title = 'Contours';
export const summary = 'Click the map for a start, then play. Several optimizers race side by side; a cloud descends from thousands of starts at once; basins colour every start by where its point is now.';

export const defaults = {
  f: 'rosenbrock',
  start: [-1, 1],
  rules: [{ name: 'sgd', lr: 0.001 }, { name: 'sgd', lr: 0.001, momentum: 0.9 }, { name: 'adam', lr: 0.05, weight_decay: 0 }, { name: 'lion', lr: 0.02, weight_decay: 0 }],
  show: 'both',
  side: 64,
  cloud: 2,
  speed: 1,
};

const SIDES = [32, 64, 128, 256];

/** A cloud on whichever engine there is, with its canvas. */
class Cloud {
  constructor({ wasm, device }) {
    Object.assign(this, { wasm, device, made: null });
    this.message = element('p', { class: 'error', role: 'alert' });
    this.holder = element('div', { 'aria-hidden': 'true' });
  }

  reset(functionName, entry, side) {
    this.free();
    this.message.textContent = '';
    const canvas = element('canvas');
    this.holder.replaceChildren(canvas);
    this.canvas = canvas;
    fit(canvas);
    this.inks = [...PALETTE, 'diverged'].map(colour);
    try {
      this.made = this.device.is_gpu()
        ? new this.wasm.DeviceCloud(this.device, canvas, functionName, description(entry), side, Float32Array.from(this.inks.flatMap(rgb)))
        : new this.wasm.HostCloud(functionName, description(entry), side);
    } catch (error) {
      this.message.textContent = error.message;
    }
  }

  step(count) {
    try { this.made?.step(count); } catch (error) { this.message.textContent = error.message; }
  }

  draw(fn, basins) {
    if (!this.made) return;
    fit(this.canvas);
    if (this.device.is_gpu()) this.made.draw(basins); else this.#drawHere(fn, basins);
  }

  #drawHere(fn, basins) {
    const { width, height } = this.canvas;
    const context = this.canvas.getContext('2d');
    const [[left, right], [bottom, top]] = fn.window;
    const colours = this.made.colours();
    const [starts, places] = [this.made.starts(), this.made.places()];
    const side = Math.sqrt(colours.length);
    const radius = Math.max(1.2, 3 * Math.sqrt(64 / side) * (width / 640));
    const cell = [width / side, height / side];
    context.clearRect(0, 0, width, height);
    context.globalAlpha = basins ? 0.72 : 0.9;
    colours.forEach((index, point) => {
      const from = basins || index === PALETTE.length ? starts : places;
      const x = ((from[2 * point] - left) / (right - left)) * width;
      const y = ((top - from[2 * point + 1]) / (top - bottom)) * height;
      context.fillStyle = this.inks[index];
      if (basins) context.fillRect(x - cell[0] / 2, y - cell[1] / 2, cell[0] + 0.5, cell[1] + 0.5);
      else context.fillRect(x - radius * 0.9, y - radius * 0.9, radius * 1.8, radius * 1.8);
    });
  }

  free() {
    this.made?.free();
    this.made = null;
  }
}

export function create(root, context, state) {
  const { wasm, functions, rules } = context;
  let fn = functions.find(({ name }) => name === state.get('f')) ?? functions[0];
  const race = new Race(wasm);
  const cloud = new Cloud(context);
  const holder = element('div');
  let plane;

  const shows = (what) => state.get('show') === what || (state.get('show') === 'both' && what !== 'basins');
  const cloudEntry = () => state.get('rules')[Math.min(state.get('cloud'), state.get('rules').length - 1)];
  const hasCloud = () => state.get('show') !== 'race';

  function restart() {
    race.reset(fn.name, state.get('rules'), state.get('start'));
    if (hasCloud()) cloud.reset(fn.name, cloudEntry(), state.get('side')); else cloud.free();
  }

  function draw() {
    cloud.holder.hidden = !hasCloud();
    if (hasCloud()) cloud.draw(fn, state.get('show') === 'basins');
    plane.set(shows('race') ? race.paths() : [], shows('race') ? state.get('start') : null);
    race.results();
  }

  const player = new Player({
    step: (count) => { race.step(count); if (hasCloud()) cloud.step(count); },
    draw, reset: restart, speed: state.get('speed'), done: () => race.over && !hasCloud(),
    change: (speed) => state.set('speed', speed),
  });

  function usePlane() {
    plane?.stop();
    plane = new Plane(wasm, fn, {
      label: `Contour map of ${fn.name}, ${fn.formula}.`,
      middle: [cloud.holder],
      pick: (x, y, done) => {
        state.set('start', [x, y]);
        race.reset(fn.name, state.get('rules'), [x, y]);
        draw();
        if (done) player.play();
      },
    });
    holder.replaceChildren(plane.root);
  }

  const entries = new Entries({
    rules, functionName: fn.name, values: state.get('rules'),
    change: (values) => { state.set('rules', values); cloudChoice(); player.reset(); },
  });
  const cloudHolder = element('div');
  function cloudChoice() {
    const names = state.get('rules').map((entry, index) => [index, `${index + 1}: ${entry.name}`]);
    cloudHolder.replaceChildren(
      select('cloud of', names, state.get('cloud'), (index) => { state.set('cloud', Number(index)); player.reset(); }),
      select('starts', SIDES.map((side) => [side, (side * side).toLocaleString('en')]), state.get('side'), (side) => { state.set('side', Number(side)); player.reset(); }));
  }

  const formula = element('p', { class: 'muted', textContent: `${fn.name}: ${fn.formula}` });
  const panel = element('div', { class: 'panel' },
    functionChoice({ functions, rules, state, entries, change: (next) => {
      fn = next;
      formula.textContent = `${fn.name}: ${fn.formula}`;
      usePlane();
      player.reset();
    } }),
    formula,
    select('show', [['both', 'race and cloud'], ['race', 'race'], ['cloud', 'cloud'], ['basins', 'basins']], state.get('show'), (show) => {
      const had = hasCloud();
      state.set('show', show);
      if (had === hasCloud()) draw(); else player.reset();
    }),
    cloudHolder,
    element('h3', { textContent: 'Optimizers' }), entries.root);
  root.append(element('div', { class: 'split' },
    element('div', {}, player.bar, holder, cloud.message, race.root,
      element('p', { class: 'muted', textContent: 'Stars are minima. Basins and points have the colour of the minimum next to them; points that diverged are drawn at their starts, in the colour of the text. A cross at the edge is a point that left the map.' })),
    panel));
  cloudChoice();
  usePlane();
  // The canvases have their sizes once they are on the page.
  restart();
  draw();
  const stop = onRedraw(holder, draw);
  return { player, stop: () => { player.pause(); stop(); plane.stop(); race.free(); cloud.free(); } };
}
