// A list of optimizers to edit: rules of the crate with the options of its registry.

import { PALETTE, check, colour, element, form, select, slider } from './controls.js';

/** Learning rates to begin with on functions of two variables; plain gradients are as steep as the function. */
const PLAIN = { rosenbrock: 0.001, beale: 0.01, himmelblau: 0.01, rastrigin: 0.002, saddle: 0.05, bowl: 0.15, wells: 0.05, formula: 0.05 };
const RATES = { lion: 0.02, signsgd: 0.02, rprop: 0.02, adagrad: 0.5, adadelta: 1, prodigy: 1, rmsprop: 0.02, lars: 1, schedule_free_sgd: 1 };

/** A rule as it starts on a function, without weight decay: that would move the minima. */
export function suggestion(rules, name, functionName) {
  const fields = rules.find((rule) => rule.name === name).fields.map((field) => field.name);
  const plain = PLAIN[functionName] ?? 0.01;
  const rate = name === 'sgd' ? plain : name === 'schedule_free_sgd' ? plain * 2 : (RATES[name] ?? 0.05);
  return { name, lr: rate, ...(fields.includes('weight_decay') ? { weight_decay: 0 } : {}) };
}

/** What the crate reads: the rule, and SAM around it if it is wanted. */
export function description({ sam, ...rule }) {
  return JSON.stringify({ rule, ...(sam ? { sam: { rho: sam } } : {}) });
}

/** A short name with what matters. */
export function title({ name, momentum, sam }) {
  return `${sam ? 'SAM + ' : ''}${name}${momentum ? `, momentum ${momentum}` : ''}`;
}

/** A choice of a function. The state follows it with the function's start and rates that suit it; `change(fn)` comes after. */
export function functionChoice({ functions, rules, state, entries, change }) {
  return select('function', functions.map(({ name }) => name), state.get('f'), (name) => {
    const fn = functions.find((candidate) => candidate.name === name);
    const values = state.get('rules').map((entry) => ({ ...entry, lr: suggestion(rules, entry.name, name).lr }));
    for (const [key, value] of Object.entries({ f: name, start: fn.start, rules: values })) state.set(key, value);
    Object.assign(entries, { functionName: name, values: structuredClone(values) });
    entries.build();
    change(fn);
  });
}

/**
 * Controls for some optimizers. `values`: rules with the options that differ from their defaults. `change(values)` follows
 * every edit. `sam`: whether SAM may be chosen.
 */
export class Entries {
  constructor({ rules, functionName, values, most = 6, sam = true, change }) {
    Object.assign(this, { rules, functionName, values: structuredClone(values), most, sam, change });
    this.list = element('div');
    this.open = new Set();
    this.root = element('div', { 'data-entries': '' }, this.list);
    this.build();
  }

  #changed() { this.change(structuredClone(this.values)); }

  build() {
    const cards = this.values.map((value, index) => this.#card(value, index));
    const add = element('button', {
      textContent: 'Add an optimizer', 'data-add': '', disabled: this.values.length >= this.most,
      onclick: () => {
        const unused = ['adam', 'sgd', 'lion', 'rmsprop', 'adagrad', 'nadam', 'lamb'];
        const name = unused.find((candidate) => !this.values.some((value) => value.name === candidate)) ?? 'adam';
        this.values.push(suggestion(this.rules, name, this.functionName));
        this.build();
        this.#changed();
      },
    });
    this.list.replaceChildren(...cards, ...(this.most > 1 ? [add] : []));
  }

  #card(value, index) {
    const rule = this.rules.find((candidate) => candidate.name === value.name) ?? this.rules[0];
    const set = (key, next) => {
      if (next === undefined) delete value[key]; else value[key] = next;
      this.#changed();
    };
    const choice = select('rule', this.rules.map(({ name }) => name), value.name, (name) => {
      this.values[index] = suggestion(this.rules, name, this.functionName);
      this.build();
      this.#changed();
    });
    const rest = rule.fields.filter(({ name }) => name !== 'lr');
    const lr = rule.fields.find(({ name }) => name === 'lr');
    const more = element('details', {
      open: this.open.has(index),
      ontoggle: (event) => { if (event.target.open) this.open.add(index); else this.open.delete(index); },
    }, element('summary', { textContent: `options of ${rule.name}` }), ...form(rest, value, set));
    if (this.sam) more.append(element('div', { class: 'row' }, check('SAM, radius 0.3', Boolean(value.sam), (on) => set('sam', on ? 0.3 : undefined))));
    return element('section', { class: 'entry', style: `--colour: ${colour(PALETTE[index])}`, 'aria-label': `optimizer ${index + 1}` },
      element('div', { class: 'row' }, choice, this.values.length > 1 ? element('button', {
        textContent: '×', 'aria-label': `remove ${value.name}`,
        onclick: () => { this.values.splice(index, 1); this.open.clear(); this.build(); this.#changed(); },
      }) : null),
      lr ? slider('lr', { min: 1e-5, max: 10, log: true }, value.lr ?? lr.default, (next) => set('lr', next)) : null,
      more);
  }
}
