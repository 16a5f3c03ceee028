// One variable: a formula, an optimizer and its point.

import { Chart } from '../chart.js';
import { Player, colour, element, select, shown, slider, text } from '../controls.js';
import { Entries, description } from '../entries.js';

export const tab = 'One dimension';
export const title = 'Descent in one dimension';
export const summary = 'Drag the point, set the rate and play. Too large a rate throws the point out, and you see it go.';

export const defaults = { formula: 'x^4 - 3*x^3 + 2', start: -0.5, from: -1.2, to: 3.4, rule: [{ name: 'sgd', lr: 0.01, momentum: 0.9 }], speed: 1 };

const EXAMPLES = [
  ['x^4 - 3*x^3 + 2', 'x⁴ − 3x³ + 2', -0.5, -1.2, 3.4],
  ['x^2', 'x²', 4, -5, 5],
  ['x^2 + 4*sin(3*x)', 'x² + 4 sin 3x', 3, -4, 4],
  ['ln(1 + x^2)', 'ln(1 + x²)', 4, -6, 6],
];

export function create(root, { wasm, rules }, state) {
  const message = element('p', { class: 'error', role: 'alert' });
  const graph = new Chart({ label: 'The formula, and the point on it. Drag, or press the arrow keys to move the start.', height: 340, x: 'x', y: 'f(x)' });
  const losses = new Chart({ label: 'The value after every step.', x: 'step', y: 'f(x)', pointer: (step) => readout(step) });
  const numbers = element('div', { class: 'numbers', role: 'status' });
  let descent = null;
  let values = [];

  function restart() {
    try {
      const made = new wasm.Descent(state.get('formula'), description(state.get('rule')[0]), state.get('start'));
      descent?.free();
      descent = made;
      message.textContent = '';
    } catch (error) {
      message.textContent = error.message;
    }
  }

  const readout = (step) => {
    const at = Math.round(step);
    const value = values[at];
    return [[value ? `step ${at}: f(x) = ${shown(value[1])}` : `step ${at}`]];
  };

  function draw() {
    if (!descent) return;
    const [from, to] = [state.get('from'), state.get('to')];
    const curve = Array.from({ length: 401 }, (_, i) => { const x = from + ((to - from) * i) / 400; return [x, descent.value(x)]; });
    const heights = curve.map(([, y]) => y).filter(Number.isFinite);
    const [low, high] = [Math.min(...heights), Math.max(...heights)];
    graph.range = [from, to, low - 0.08 * (high - low), high + 0.04 * (high - low)];
    const path = descent.path();
    const points = Array.from(path, (x) => [x, descent.value(x)]);
    values = points.map(([, y], step) => [step, y]);
    const now = points.at(-1);
    const slope = descent.slope(now[0]);
    const reach = (to - from) * 0.09;
    graph.set([
      { points: curve, colour: colour('muted') },
      { points: points.slice(-60), colour: colour('c0'), dots: true, wide: 1 },
      { points: [[now[0] - reach, now[1] - slope * reach], [now[0] + reach, now[1] + slope * reach]], colour: colour('c2'), dash: true },
      { points: [now], colour: colour('c1'), dots: true, radius: 7 },
    ]);
    losses.set([{ points: values, colour: colour('c0'), dots: values.length < 60 }]);
    const left = now[0] < from || now[0] > to;
    const place = descent.diverged() ? 'diverged' : left ? 'outside the picture' : shown(now[0]);
    numbers.replaceChildren(...[['step', path.length - 1], ['x', place], ['f(x)', shown(now[1])], ['slope', shown(slope)]].map(([name, value]) =>
      element('div', {}, name, element('b', { textContent: value, class: value === 'diverged' || value === 'outside the picture' ? 'warn' : '' }))));
  }

  const player = new Player({
    step: (count) => {
      try { for (let i = 0; i < count; i += 1) descent?.step(); } catch (error) { message.textContent = error.message; player.pause(); }
    },
    draw, reset: restart, speed: state.get('speed'), speeds: [1, 2, 5, 10], done: () => !descent || descent.diverged() || descent.path().length > 5000,
    change: (speed) => state.set('speed', speed),
  });

  let startControl;
  const startHolder = element('div');
  function move(x) {
    const start = Number(Math.min(Math.max(x, state.get('from')), state.get('to')).toPrecision(4));
    state.set('start', start);
    player.reset();
  }
  function controls() {
    startControl = slider('start', { min: state.get('from'), max: state.get('to') }, state.get('start'), move);
    startHolder.replaceChildren(startControl);
  }
  let held = false;
  graph.canvas.style.touchAction = 'pan-y';
  graph.canvas.style.cursor = 'ew-resize';
  graph.canvas.tabIndex = 0;
  graph.canvas.setAttribute('role', 'application');
  graph.canvas.addEventListener('pointerdown', (event) => { held = true; graph.canvas.setPointerCapture(event.pointerId); move(graph.from(event.offsetX)); });
  graph.canvas.addEventListener('pointermove', (event) => { if (held) move(graph.from(event.offsetX)); });
  graph.canvas.addEventListener('pointerup', () => { if (held) { held = false; controls(); } });
  graph.canvas.addEventListener('keydown', (event) => {
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (by) { event.preventDefault(); move(state.get('start') + (by * (state.get('to') - state.get('from'))) / 50); controls(); }
  });

  const fields = element('div');
  function formulaFields() {
    const known = EXAMPLES.find(([formula]) => formula === state.get('formula'));
    fields.replaceChildren(
      select('example', [...EXAMPLES.map(([formula, name]) => [formula, name]), ['', 'your own']], known ? known[0] : '', (formula) => {
        const example = EXAMPLES.find(([candidate]) => candidate === formula);
        if (!example) return;
        for (const [key, value] of [['formula', example[0]], ['start', example[2]], ['from', example[3]], ['to', example[4]]]) state.set(key, value);
        formulaFields();
        controls();
        player.reset();
      }),
      text('formula of x', state.get('formula'), (formula) => { state.set('formula', formula); player.reset(); }),
      ...[['from', 'left end'], ['to', 'right end']].map(([key, label]) => text(label, state.get(key), (value) => {
        const next = Number(value);
        if (Number.isFinite(next) && (key === 'from' ? next < state.get('to') : next > state.get('from'))) { state.set(key, next); controls(); draw(); }
      }, 'number')));
  }
  formulaFields();
  controls();
  const entries = new Entries({ rules, functionName: 'formula', values: state.get('rule'), most: 1, sam: false, change: (next) => { state.set('rule', next); player.reset(); } });
  root.append(element('div', { class: 'split' },
    element('div', {}, player.bar, graph.canvas, message, numbers, losses.canvas),
    element('div', { class: 'panel' }, fields, startHolder, element('h3', { textContent: 'Optimizer' }), entries.root,
      element('p', { class: 'muted', textContent: 'Formulas have + − * / ^ and sin, cos, tan, exp, ln, sqrt, abs, tanh. Their derivatives are computed from the text.' }))));
  restart();
  draw();
  return { player, stop: () => { player.pause(); graph.stop(); losses.stop(); descent?.free(); } };
}
