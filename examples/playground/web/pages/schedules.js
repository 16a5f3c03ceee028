// Learning rates over time.

import { Chart } from '../chart.js';
import { PALETTE, colour, element, form, select, shown, slider } from '../controls.js';

export const tab = 'Schedules';
export const title = 'Schedules';
export const summary = 'Every schedule of the crate, several at once. Move the pointer over the picture to read the learning rates.';

export const defaults = { steps: 100, list: [{ name: 'warmup_cosine' }, { name: 'one_cycle' }, { name: 'cosine_warm_restarts' }] };

const MOST = 6;

export function create(root, { wasm }, state) {
  const forms = JSON.parse(wasm.schedule_forms());
  const formOf = (name) => forms.find((candidate) => candidate.name === name) ?? forms[0];
  let curves = [];
  const chart = new Chart({
    label: 'Learning rate of every schedule over the steps.', height: 380, y: 'learning rate',
    pointer: (x) => {
      const step = Math.max(0, Math.round(x));
      return [[`step ${step}`], ...curves.map(({ name, rates, ink }) => [`${name}: ${step < rates.length ? shown(rates[step]) : 'ended'}`, ink])];
    },
  });
  const list = element('div');
  const message = element('p', { class: 'error', role: 'alert' });

  function draw() {
    message.textContent = '';
    curves = [];
    state.get('list').forEach((values, index) => {
      const all = Object.fromEntries(formOf(values.name).fields.map(({ name, default: usual }) => [name, values[name] ?? usual]));
      try {
        const rates = wasm.schedule_curve(JSON.stringify({ name: values.name, ...all }), state.get('steps'));
        curves.push({ name: values.name, rates, ink: colour(PALETTE[index]) });
      } catch (error) { message.textContent = `${values.name}: ${error.message}`; }
    });
    chart.set(curves.map(({ rates, ink }) => ({ colour: ink, points: Array.from(rates, (rate, step) => [step, rate]) })));
  }

  function set(values) { state.set('list', values); draw(); }

  /** A slider where the default says how large a parameter is; another control elsewhere. */
  function parameter(field, values) {
    const value = values[field.name] ?? field.default;
    const change = (next) => { values[field.name] = next; set(state.get('list')); };
    if (typeof field.default !== 'number' || field.default === 0) return form([field], values, (_, next) => change(next))[0];
    const whole = Number.isInteger(field.default) && field.default > 1;
    const most = whole ? Math.max(10, 2 * field.default) : field.default <= 1 && !/lr$/.test(field.name) ? Math.max(1, field.default) : 2 * field.default;
    return slider(field.name, { min: whole ? 1 : 0, max: most, step: whole ? 1 : most / 200 }, value, change);
  }

  function build() {
    const values = state.get('list');
    const cards = values.map((value, index) => element('section', { class: 'entry', style: `--colour: ${colour(PALETTE[index])}`, 'aria-label': `schedule ${index + 1}` },
      element('div', { class: 'row' },
        select('kind', forms.map(({ name }) => name), value.name, (name) => { values[index] = { name }; set(values); build(); }),
        values.length > 1 ? element('button', { textContent: '×', 'aria-label': `remove ${value.name}`, onclick: () => { values.splice(index, 1); set(values); build(); } }) : null),
      element('details', { open: index === 0 }, element('summary', { textContent: 'parameters' }), ...formOf(value.name).fields.map((field) => parameter(field, value)))));
    const add = element('button', {
      textContent: 'Add a schedule', 'data-add': '', disabled: values.length >= MOST,
      onclick: () => { values.push({ name: forms.find(({ name }) => !values.some((value) => value.name === name)).name }); set(values); build(); },
    });
    list.replaceChildren(...cards, add);
  }

  root.append(element('div', { class: 'split' },
    element('div', {}, chart.canvas, message),
    element('div', { class: 'panel' }, slider('steps', { min: 10, max: 1000, step: 1 }, state.get('steps'), (steps) => {
      state.set('steps', Math.min(Math.max(Math.round(steps), 2), 100_000));
      draw();
    }), list)));
  build();
  draw();
  return { stop: () => chart.stop() };
}
