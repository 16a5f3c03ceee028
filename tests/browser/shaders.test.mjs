// The browser's compiler, Tint, accepts the WGSL of every kernel of every rule.

import assert from 'node:assert/strict';
import { availableParallelism } from 'node:os';
import { test } from 'node:test';
import { launch, open } from './harness.mjs';

/** Compiles the kernels of every `step`th case from `first` on; runs in the page. */
async function compile([first, step]) {
  const adapter = await navigator.gpu.requestAdapter();
  const device = await adapter.requestDevice();
  const [seen, refused] = [new Set(), []];
  const cases = window.tests.shader_case_count();
  for (let i = first; i < cases; i += step) {
    const list = window.tests.shaders_of(i);
    const modules = [];
    for (let k = 0; k < list.length; k += 2) {
      const [label, code] = [list[k], list[k + 1]];
      if (seen.has(code)) continue;
      seen.add(code);
      device.pushErrorScope('validation');
      const module = device.createShaderModule({ code });
      modules.push([label, module, device.popErrorScope()]);
    }
    for (const [label, module, outcome] of modules) {
      const { messages } = await module.getCompilationInfo();
      const error = await outcome;
      for (const { type, lineNum, message } of messages) refused.push(`${label}, line ${lineNum}: ${type}: ${message}`);
      if (error && messages.length === 0) refused.push(`${label}: ${error.message}`);
    }
  }
  return { cases, kernels: seen.size, refused };
}

test('Tint accepts every kernel', async (t) => {
  // A browser compiles on one core.
  const browsers = await Promise.all(Array.from({ length: Math.min(availableParallelism(), 8) }, () => launch()));
  t.after(() => Promise.all(browsers.map((browser) => browser.close())));
  const results = await Promise.all(
    browsers.map(async (browser, first) => {
      const { page, check } = await open(browser, process.env.BROWSER_TESTS, 'window.tests');
      const { cases, kernels, refused } = await page.evaluate(compile, [first, browsers.length]);
      assert.deepEqual(refused, []);
      assert.ok(cases > 50, `${cases} cases`);
      check();
      return kernels;
    }),
  );
  const kernels = results.reduce((sum, kernels) => sum + kernels);
  assert.ok(kernels > 10000, `${kernels} kernels`);
  t.diagnostic(`${kernels} kernels`);
});
