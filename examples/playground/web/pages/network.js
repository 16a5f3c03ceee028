// The multilayer perceptron of the example mlp_mnist, in training.

import { Chart } from '../chart.js';
import { Player, check, colour, element, lines, select, shown, slider } from '../controls.js';

export const tab = 'Network';
export const title = 'A network that learns';
export const summary = 'A multilayer perceptron reads digits: 784 pixels, one hidden layer, ten answers. Everything may be changed while it trains; the optimizer’s states then start anew.';

export const defaults = { optimizer: 'adamw', lr: 0.004, schedule: 'constant', clip: 1, clipping: true, precision: 'f32', speed: 2 };

const HIDDEN = 64;
const SIDE = 28;
/** Points that the curves keep. */
const KEPT = 3000;
/** Milliseconds between two looks at the parameters. */
const LOOK_MS = 700;
/** A learning rate at which plain SGD explodes without clipping. */
const EXPLOSION = { optimizer: 'sgd', lr: 100, schedule: 'constant', clip: 0.003, precision: 'f32' };
/** Ten times the loss of guesses at random, in nats: a loss above has exploded. */
const EXPLODED = 10 * Math.log(10);

const schedules = {
  constant: () => null,
  'warm-up and cosine, 2 epochs': (lr, epoch) => ({ name: 'warmup_cosine', lr, warmup_steps: Math.round(epoch / 4), total_steps: 2 * epoch, min_lr: lr / 20 }),
  'step, halved every half epoch': (lr, epoch) => ({ name: 'step', lr, step_size: Math.round(epoch / 2), gamma: 0.5 }),
  'exponential, to a third in an epoch': (lr, epoch) => ({ name: 'exponential', lr, gamma: (1 / 3) ** (1 / epoch) }),
};

const KINDS = [['train', 'images'], ['train', 'labels'], ['t10k', 'images'], ['t10k', 'labels']];

export function create(root, { wasm, device }, state) {
  const choices = JSON.parse(wasm.network_choices());
  const message = element('p', { class: 'error', role: 'alert' });
  const numbers = element('div', { class: 'numbers', role: 'status', 'data-numbers': '' });
  const loss = new Chart({ label: 'Training loss of every step, in nats.', log: true, y: 'loss' });
  const accuracy = new Chart({ label: 'Accuracy in percent: training batches, and test images.', y: 'accuracy, %', height: 150 });
  const norms = new Chart({ label: 'Norm of all gradients, before and after clipping.', log: true, y: 'gradient norm', height: 150 });
  let training = null;
  let files = null;
  let parameters = null;
  let points = [];
  let tests = [];
  let stopped = false;
  let asked = 0;
  let looking = false;
  let again = false;
  let epoch = 63;
  /** Steps of the optimizers before this one. */
  let base = 0;

  const settings = (values = state.values) => JSON.stringify({
    optimizer: values.optimizer, lr: values.lr, schedule: (schedules[values.schedule] ?? schedules.constant)(values.lr, epoch),
    clip: values.clipping ? values.clip : null, precision: values.precision,
  });

  /** Starts anew. Training goes on as it is where the settings or the files are refused. */
  function restart() {
    try {
      const made = files
        ? wasm.Training.from_files(device, HIDDEN, settings(), ...files)
        : new wasm.Training(device, HIDDEN, settings());
      training?.free();
      training = made;
      epoch = training.steps_per_epoch();
      message.textContent = '';
    } catch (error) {
      message.textContent = error.message;
      return;
    }
    [points, tests, parameters, base] = [[], [], null, 0];
    look(true);
  }

  /** Parameters as they are now, their accuracy, pictures and answer. */
  async function look(now = false) {
    if (looking) again ||= now;
    if (!training || stopped || looking || (!now && performance.now() - asked < LOOK_MS)) return;
    looking = true;
    asked = performance.now();
    const subject = training;
    try {
      const found = await subject.parameters();
      if (!stopped && subject === training) {
        parameters = found;
        const [, percent] = training.evaluate(parameters);
        collect();
        tests.push([points.length ? points.at(-1).step : 0, percent]);
        weights();
        answer();
        paint();
      }
    } catch (error) { message.textContent = error.message ?? String(error); } finally { looking = false; }
    if (again) {
      again = false;
      look(true);
    }
  }

  /** Goes on with other settings from where the parameters are. */
  let changing = Promise.resolve();
  function configure() {
    changing = changing.then(async () => {
      if (!training || stopped) return;
      try {
        const found = await training.parameters();
        if (stopped) return;
        collect();
        training.configure(settings(), found);
        base = points.at(-1)?.step ?? 0;
        message.textContent = '';
      } catch (error) { message.textContent = error.message ?? String(error); }
    });
  }

  function step(count) {
    if (!training || training.is_behind()) return;
    try {
      for (let i = 0; i < count; i += 1) { training.step(); }
    } catch (error) { message.textContent = error.message; player.pause(); }
  }

  function collect() {
    if (!training) return;
    for (const point of JSON.parse(training.points())) points.push({ ...point, step: base + point.step });
    if (points.length > KEPT) points = points.slice(-KEPT);
  }

  /** Shows the numbers that have arrived. */
  function paint() {
    try { collect(); } catch (error) { message.textContent = error.message; }
    const last = points.at(-1);
    const exploded = last && (last.loss === null || last.loss > EXPLODED);
    loss.set([{ colour: colour('c0'), points: points.map((point) => [point.step, point.loss ?? NaN]) }]);
    accuracy.set([
      { colour: colour('c4'), wide: 1, points: points.map((point) => [point.step, point.accuracy]) },
      { colour: colour('c1'), points: tests, dots: tests.length < 40, wide: 2.5 },
    ]);
    norms.set([
      { colour: colour('c3'), points: points.map((point) => [point.step, point.grad_norm ?? NaN]), wide: 1.5 },
      { colour: colour('c2'), points: points.map((point) => [point.step, (point.grad_norm ?? NaN) * point.clip_coef]), dash: true },
    ]);
    const clipped = points.slice(-100).filter((point) => point.clip_coef < 1).length / Math.max(1, Math.min(points.length, 100));
    numbers.replaceChildren(...[
      ['step', last?.step ?? 0],
      ['loss', exploded ? 'exploded' : shown(last?.loss, 3)],
      ['test accuracy', tests.length ? `${tests.at(-1)[1].toFixed(1)} %` : '–'],
      ['learning rate', shown(last?.lr, 3)],
      ['gradient norm', last && last.grad_norm === null ? 'not finite' : shown(last?.grad_norm, 3)],
      ['clipped of late', points.length ? `${Math.round(100 * clipped)} %` : '–'],
      ...(last?.loss_scale ? [['loss scale', shown(last.loss_scale)]] : []),
      ...(last?.skipped ? [['skipped', last.skipped]] : []),
    ].map(([name, value]) => element('div', {}, name, element('b', { textContent: value, class: /exploded|not finite/.test(value) ? 'warn' : '' }))));
    numbers.dataset.accuracy = tests.length ? tests.at(-1)[1] : 0;
    numbers.dataset.step = last?.step ?? 0;
  }

  function draw() {
    paint();
    // While it plays, a later picture shows what has not arrived yet.
    look(!player.playing);
  }

  const player = new Player({ step, draw, reset: restart, speed: state.get('speed'), speeds: [1, 2, 5, 10], change: (speed) => state.set('speed', speed) });

  // The first layer.
  const pictures = element('div', { class: 'weights', role: 'img', 'aria-label': 'Weights of the hidden units: blue is negative, orange positive.' });
  const canvases = Array.from({ length: HIDDEN }, () => element('canvas', { width: SIDE, height: SIDE }));
  pictures.append(...canvases);
  const inks = [[0, 114, 178], [245, 245, 245], [213, 94, 0]];
  function weights() {
    const all = training.first_weights(parameters);
    canvases.forEach((canvas, unit) => {
      const one = all.subarray(unit * SIDE * SIDE, (unit + 1) * SIDE * SIDE);
      const most = one.reduce((largest, weight) => Math.max(largest, Math.abs(weight)), 1e-9);
      const image = new ImageData(SIDE, SIDE);
      one.forEach((weight, pixel) => {
        const share = weight / most;
        const [from, to] = share < 0 ? [inks[1], inks[0]] : [inks[1], inks[2]];
        for (let part = 0; part < 3; part += 1) image.data[4 * pixel + part] = from[part] + (to[part] - from[part]) * Math.abs(share);
        image.data[4 * pixel + 3] = 255;
      });
      lines(canvas).putImageData(image, 0, 0);
    });
  }

  // A digit to draw.
  const pad = element('canvas', { class: 'pad', width: SIDE, height: SIDE, role: 'img', 'aria-label': 'Draw a digit here with the pointer, or take one of the test images below.' });
  const ink = lines(pad);
  const bars = element('div', { class: 'bars', role: 'status', 'aria-label': 'The answer of the network', 'data-answer': '' });
  const clear = () => { ink.fillStyle = '#000'; ink.fillRect(0, 0, SIDE, SIDE); };
  clear();
  function pixels() {
    const { data } = ink.getImageData(0, 0, SIDE, SIDE);
    return Uint8Array.from({ length: SIDE * SIDE }, (_, pixel) => data[4 * pixel]);
  }
  function answer() {
    if (!parameters || !training) return;
    const image = pixels();
    if (image.every((pixel) => pixel === 0)) { bars.replaceChildren(element('span', { class: 'muted', style: 'grid-column: 1 / 4', textContent: 'Draw a digit.' })); return; }
    const shares = Array.from(training.answer(parameters, image));
    const best = shares.indexOf(Math.max(...shares));
    bars.dataset.answer = best;
    bars.replaceChildren(...shares.flatMap((share, digit) => [
      element(digit === best ? 'b' : 'span', { textContent: digit }),
      element('i', { style: `--share: ${(100 * share).toFixed(1)}%` }),
      element('span', { textContent: `${(100 * share).toFixed(0)} %` }),
    ]));
  }
  let pen = null;
  const at = (event) => { const box = pad.getBoundingClientRect(); return [((event.clientX - box.left) / box.width) * SIDE, ((event.clientY - box.top) / box.height) * SIDE]; };
  function stroke(event) {
    const here = at(event);
    Object.assign(ink, { strokeStyle: '#fff', lineWidth: 2.4, lineCap: 'round' });
    ink.beginPath(); ink.moveTo(...pen); ink.lineTo(here[0] + 0.01, here[1]); ink.stroke();
    pen = here;
    answer();
  }
  pad.addEventListener('pointerdown', (event) => { pad.setPointerCapture(event.pointerId); pen = at(event); stroke(event); });
  pad.addEventListener('pointermove', (event) => { if (pen) stroke(event); });
  for (const end of ['pointerup', 'pointercancel']) pad.addEventListener(end, () => { pen = null; });
  let example = 0;
  function take() {
    const image = training.example((example += 7));
    const picture = new ImageData(SIDE, SIDE);
    for (let pixel = 0; pixel < SIDE * SIDE; pixel += 1) picture.data.set([image[pixel], image[pixel], image[pixel], 255], 4 * pixel);
    ink.putImageData(picture, 0, 0);
    answer();
  }

  // The real digits.
  const drop = element('div', { class: 'drop' }, element('label', { class: 'muted', htmlFor: 'idx' }, 'The real MNIST: drop or choose its four IDX files, gzip or raw. They stay on your machine.'),
    element('input', { id: 'idx', type: 'file', multiple: true, onchange: (event) => load([...event.target.files]) }));
  async function load(list) {
    try {
      const found = KINDS.map(([set, kind]) => list.find(({ name }) => name.startsWith(set) && name.includes(kind)));
      const missing = KINDS.filter((_, index) => !found[index]).map(([set, kind]) => `${set}-${kind}`);
      if (missing.length) throw new Error(`missing: ${missing.join(', ')}; choose all four files at once`);
      const bytes = await Promise.all(found.map(async (file) => new Uint8Array(await file.arrayBuffer())));
      const before = files;
      files = bytes;
      player.reset();
      if (message.textContent) files = before;
    } catch (error) { message.textContent = error.message; }
  }
  for (const [name, over] of [['dragover', true], ['dragleave', false], ['drop', false]]) {
    drop.addEventListener(name, (event) => {
      event.preventDefault();
      drop.classList.toggle('over', over);
      if (name === 'drop') load([...event.dataTransfer.files]);
    });
  }

  // Controls.
  const fields = element('div');
  function controls() {
    const set = (key) => (value) => { state.set(key, value); configure(); };
    fields.replaceChildren(
      select('optimizer', choices.optimizers.map(([name]) => name), state.get('optimizer'), (name) => {
        state.set('optimizer', name);
        state.set('lr', choices.optimizers.find(([candidate]) => candidate === name)[1]);
        controls();
        configure();
      }),
      slider('lr', { min: 1e-5, max: 100, log: true }, state.get('lr'), set('lr')),
      select('schedule', Object.keys(schedules), state.get('schedule'), set('schedule')),
      element('div', { class: 'row' }, check('clip the gradients by their norm', state.get('clipping'), set('clipping'))),
      slider('largest norm', { min: 0.001, max: 100, log: true }, state.get('clip'), set('clip')),
      select('precision', choices.precisions, state.get('precision'), set('precision')));
  }
  function explode(clipping) {
    for (const [key, value] of Object.entries({ ...EXPLOSION, clipping })) state.set(key, value);
    controls();
    player.reset();
    player.play();
  }
  const explosion = element('div', {}, element('h3', { textContent: 'An explosion' }),
    element('p', { class: 'muted', textContent: 'SGD at a rate of 100: without clipping the loss explodes within a few steps. Clipping to a norm of 0.003 keeps the steps short, and it learns.' }),
    element('div', { class: 'row' },
      element('button', { textContent: 'Clipping off', 'data-explode': 'off', onclick: () => explode(false) }),
      element('button', { textContent: 'Clipping on', 'data-explode': 'on', onclick: () => explode(true) }),
      element('button', { textContent: 'Back to AdamW', onclick: () => { for (const [key, value] of Object.entries(defaults)) state.set(key, value); controls(); player.reset(); } })));

  root.append(element('div', { class: 'split' },
    element('div', {}, player.bar, message, numbers, loss.canvas, accuracy.canvas,
      element('p', { class: 'muted' }, 'Light blue: batches of 64. ', element('span', { class: 'swatch', style: '--colour: var(--c1)' }), '500 test images.'),
      norms.canvas,
      element('p', { class: 'muted' }, element('span', { class: 'swatch', style: '--colour: var(--c3)' }), 'Norm of all gradients. ', element('span', { class: 'swatch', style: '--colour: var(--c2)' }), 'After clipping, dashed.'),
      element('h3', { textContent: 'Weights of the first layer' }), pictures),
    element('div', { class: 'panel' }, fields, explosion, element('h3', { textContent: 'Draw a digit' }), pad,
      element('div', { class: 'row' },
        element('button', { textContent: 'Clear', onclick: () => { clear(); answer(); } }),
        element('button', { textContent: 'A test image', 'data-example': '', onclick: take })),
      bars, element('h3', { textContent: 'Other digits' }), drop)));
  controls();
  restart();
  draw();
  return { player, stop: () => { stopped = true; player.pause(); for (const chart of [loss, accuracy, norms]) chart.stop(); training?.free(); training = null; } };
}
