// Several optimizers from one start, and the table of their results.

import { PALETTE, colour, element, shown } from './controls.js';
import { description, title } from './entries.js';

export class Race {
  constructor(wasm) {
    this.wasm = wasm;
    this.racers = [];
    this.table = element('tbody');
    this.message = element('p', { class: 'error', role: 'alert' });
    this.root = element('div', {},
      element('table', { 'data-results': '' },
        element('caption', { class: 'muted', style: 'text-align: left' }, 'Single points step on the CPU engine, which has the numbers of the GPU.'),
        element('thead', {}, element('tr', {}, ...['optimizer', 'step', 'value', 'to the target'].map((name, index) =>
          element('th', { scope: 'col', textContent: name, class: index ? 'number' : '' })))),
        this.table),
      this.message);
  }

  /** Puts all points at the start. */
  reset(functionName, entries, start) {
    this.free();
    this.message.textContent = '';
    this.racers = entries.map((entry, index) => {
      try {
        const cells = Array.from({ length: 3 }, () => element('td', { class: 'number' }));
        return { entry, index, cells, racer: new this.wasm.Racer(functionName, description(entry), ...start) };
      } catch (error) {
        this.message.textContent = `${entry.name}: ${error.message}`;
        return null;
      }
    }).filter(Boolean);
    this.#rows();
    this.results();
  }

  step(count) {
    for (const item of this.racers) {
      try {
        for (let i = 0; i < count && !item.racer.diverged(); i += 1) item.racer.step();
      } catch (error) {
        this.message.textContent = `${item.entry.name}: ${error.message}`;
      }
    }
  }

  /** The largest number of steps taken. */
  get steps() { return Math.max(0, ...this.racers.map(({ racer }) => racer.steps())); }

  /** Whether no point goes on. */
  get over() { return this.racers.every(({ racer }) => racer.diverged()) || this.steps >= 20_000; }

  paths() {
    return this.racers.map(({ racer, index }) => ({ colour: colour(PALETTE[index]), numbers: racer.path(), diverged: racer.diverged() }));
  }

  /** Writes the numbers to the table; its rows were made by `reset`. */
  results() {
    for (const { racer, cells: [steps, value, last] } of this.racers) {
      steps.textContent = racer.steps();
      value.textContent = shown(racer.value(), 3);
      const arrival = racer.arrival();
      last.textContent = arrival !== undefined ? `${arrival} steps` : racer.diverged() ? 'diverged' : 'not yet';
      last.classList.toggle('warn', arrival === undefined && racer.diverged());
    }
  }

  #rows() {
    this.table.replaceChildren(...this.racers.map(({ entry, index, cells }) => element('tr', {},
      element('td', {}, element('span', { class: 'swatch', style: `--colour: var(--${PALETTE[index]})` }), title(entry)), ...cells)));
  }

  free() {
    for (const { racer } of this.racers) racer.free();
    this.racers = [];
  }
}
