// The library in a browser's WebGPU: calls the functions of `src/` by name.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { launch, open } from './harness.mjs';

let browser, page, check;

before(async () => {
  browser = await launch();
  ({ page, check } = await open(browser, process.env.BROWSER_TESTS, 'window.tests'));
});

after(() => browser?.close());

/** Calls a function of the wasm file. */
const call = (name, ...values) =>
  page.evaluate(([name, values]) => window.tests[name](...values), [name, values]);

test('both engines agree after 200 steps', async (t) => {
  for (const name of await call('agreement_cases')) {
    await t.test(name, async (t) => {
      t.diagnostic(await call('agreement', name));
      check();
    });
  }
});

for (const [what, name] of [
  ['statistics and history arrive', 'statistics'],
  ['a checkpoint continues with the same bits', 'checkpoint'],
  ['a range test awaits its losses', 'range_test'],
  ['default limits hold every rule', 'default_limits'],
  ["a rule that Tint refuses is an error with the rule's line", 'refused'],
]) {
  test(what, { timeout: 300_000 }, async (t) => {
    t.diagnostic(await call(name));
    check();
  });
}

test('a lost device resolves what waits', { timeout: 300_000 }, async (t) => {
  t.diagnostic(await call('lost'));
  // Chromium prints the loss itself.
});
