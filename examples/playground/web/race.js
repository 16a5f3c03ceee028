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
        return { entry, index, racer: new this.wasm.Racer(functionName, description(entry), ...start) };
      } catch (error) {
        this.message.textContent = `${entry.name}: ${error.message}`;
        return null;
      }
    }).filter(Boolean);
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

  results() {
    this.table.replaceChildren(...this.racers.map(({ entry, racer, index }) => {
      const arrival = racer.arrival();
      const diverged = element('span', { class: 'warn', textContent: 'diverged' });
      const last = arrival !== undefined ? `${arrival} steps` : racer.diverged() ? diverged : 'not yet';
      return element('tr', {},
        element('td', {}, element('span', { class: 'swatch', style: `--colour: ${colour(PALETTE[index])}` }), title(entry)),
        element('td', { class: 'number', textContent: racer.steps() }),
        element('td', { class: 'number', textContent: shown(racer.value(), 3) }),
        element('td', { class: 'number' }, last));
    }));
  }

  free() {
    for (const { racer } of this.racers) racer.free();
    this.racers = [];
  }
}
