// Where optimizers stop: at a saddle, and in sharp or flat minima.

import { Player, element } from '../controls.js';
import { Entries } from '../entries.js';
import { Plane } from '../plane.js';
import { Race } from '../race.js';

export const tab = 'Saddle and minima';
export const title = 'Saddle and minima';
export const summary = 'Two short stories of the same kind: the gradient is small, and the rule decides what happens next.';

export const defaults = {
  saddleStart: [1, 0.0001], saddle: [{ name: 'sgd', lr: 0.05 }, { name: 'sgd', lr: 0.05, momentum: 0.9 }],
  wellsStart: [-1.4, 0.9], wells: [{ name: 'sgd', lr: 0.05 }, { name: 'sgd', lr: 0.05, sam: 0.4 }],
};

const STORIES = [
  ['saddle', 'saddle', 'A saddle', 'x² − y² falls along y, and hardly at all where y is small. SGD creeps along the ridge; momentum adds up the little that there is, and leaves first.'],
  ['wells', 'wells', 'A sharp minimum and a flat one', 'The sharp well on the left is a little deeper. SGD settles in it. SAM takes its gradient a radius further up, where the sharp well is gone: it is pushed out, and hovers at the rim. From a start nearer to the flat well it settles there.'],
];

export function create(root, { wasm, functions, rules }, state) {
  const stories = STORIES.map(([key, name, heading, words]) => {
    const fn = functions.find((candidate) => candidate.name === name);
    const race = new Race(wasm);
    const start = () => state.get(`${key}Start`);
    const reset = () => race.reset(name, state.get(key), start());
    const plane = new Plane(wasm, fn, {
      label: `Contour map of ${name}, ${fn.formula}.`,
      pick: (x, y, done) => { state.set(`${key}Start`, [x, y]); reset(); draw(); if (done) player.play(); },
    });
    const draw = () => { plane.set(race.paths(), start()); race.results(); };
    const entries = new Entries({ rules, functionName: name, values: state.get(key), change: (values) => { state.set(key, values); reset(); draw(); } });
    const section = element('section', { 'aria-label': heading }, element('h3', { textContent: heading }), element('p', { textContent: words }),
      plane.root, race.root, element('details', {}, element('summary', { textContent: 'Optimizers' }), entries.root));
    return { race, plane, draw, reset, section };
  });
  const draw = () => stories.forEach((story) => story.draw());
  const player = new Player({
    step: (count) => stories.forEach(({ race }) => race.step(count)),
    draw, reset: () => stories.forEach((story) => story.reset()), speeds: [1, 2, 5, 10],
    done: () => stories.every(({ race }) => race.over || race.steps > 1500),
  });
  root.append(player.bar, element('div', { class: 'halves' }, ...stories.map(({ section }) => section)));
  stories.forEach((story) => story.reset());
  draw();
  return { player, stop: () => { player.pause(); stories.forEach(({ race, plane }) => { race.free(); plane.stop(); }); } };
}
