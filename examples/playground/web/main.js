// Loads the wasm module, opens the device and shows the page that the address names.

import * as wasm from './playground.js';
import { element } from './controls.js';
import { State, read } from './state.js';
import * as descent from './pages/descent.js';
import * as contours from './pages/contours.js';
import * as surface from './pages/surface.js';
import * as schedules from './pages/schedules.js';
import * as minima from './pages/minima.js';
import * as network from './pages/network.js';

const PAGES = { contours, descent, surface, schedules, minima, network };

const root = document.querySelector('#page');
const tabs = document.querySelector('#tabs');
/** The values of pages that were left. */
const left = {};
let current = null;

function show(context) {
  const { page, values } = read();
  const name = page in PAGES ? page : 'contours';
  if (current) {
    left[current.name] = current.state.values;
    current.state.stop();
    current.shown.stop();
  }
  const module = PAGES[name];
  const state = new State(name, module.defaults, Object.keys(values).length ? values : (left[name] ?? {}));
  root.replaceChildren(element('h2', { textContent: module.title }), element('p', { textContent: module.summary }));
  root.dataset.page = name;
  current = { name, state, shown: module.create(root, context, state) };
  document.title = `${module.title} – wgpu-optim playground`;
  for (const tab of tabs.children) {
    if (tab.hash === `#${name}`) tab.setAttribute('aria-current', 'page'); else tab.removeAttribute('aria-current');
  }
}

function keys(event) {
  const typing = event.target.closest('input, select, textarea, button, summary, a');
  const player = current?.shown.player;
  if (typing || !player || event.ctrlKey || event.altKey || event.metaKey) return;
  const act = { ' ': () => player.toggle(), s: () => { player.pause(); player.advance(1); }, r: () => player.reset() }[event.key];
  if (!act) return;
  event.preventDefault();
  act();
}

async function start() {
  await wasm.default();
  const wanted = new URLSearchParams(location.search).get('device') !== 'cpu';
  const device = await wasm.Device.open(wanted);
  document.querySelector('#device').textContent = `Running on ${device.reason()}. Keys: space plays, s steps, r resets.`;
  const context = {
    wasm, device,
    rules: JSON.parse(wasm.rules()),
    functions: JSON.parse(wasm.functions()),
  };
  tabs.replaceChildren(...Object.entries(PAGES).map(([name, { tab }]) => element('a', { href: `#${name}`, textContent: tab })));
  addEventListener('hashchange', () => show(context));
  addEventListener('keydown', keys);
  show(context);
  document.documentElement.dataset.ready = device.is_gpu() ? 'gpu' : 'cpu';
}

start().catch((error) => {
  document.querySelector('#device').replaceChildren(element('span', { class: 'warn', textContent: `This page could not start: ${error.message ?? error}` }));
  throw error;
});
