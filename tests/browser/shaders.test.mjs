// The browser's compiler, Tint, accepts the WGSL of every kernel of every rule.

import assert from 'node:assert/strict';
import { availableParallelism } from 'node:os';
import { test } from 'node:test';
import { launch, open } from './harness.mjs';

/**
 * Compiles the kernels of every `step`th case from `first` on, but for those that another browser has claimed; runs in the
 * page.
 */
async function compile([first, step]) {
  const adapter = await navigator.gpu.requestAdapter();
  const device = await adapter.requestDevice();
  const refused = [];
  let kernels = 0;
  const hash = async (code) => String(new Uint32Array(await crypto.subtle.digest('SHA-256', new TextEncoder().encode(code))));
  const cases = window.tests.shader_case_count();
  for (let i = first; i < cases; i += step) {
    const list = window.tests.shaders_of(i);
    const codes = list.filter((_, k) => k % 2 === 1);
    const isNew = await window.claim(await Promise.all(codes.map(hash)));
    const modules = [];
    for (const [k, code] of codes.entries()) {
      if (!isNew[k]) continue;
      device.pushErrorScope('validation');
      const module = device.createShaderModule({ code });
      modules.push([list[2 * k], module, device.popErrorScope()]);
    }
    kernels += modules.length;
    for (const [label, module, outcome] of modules) {
      const { messages } = await module.getCompilationInfo();
      const error = await outcome;
      for (const { type, lineNum, message } of messages) refused.push(`${label}, line ${lineNum}: ${type}: ${message}`);
      if (error && messages.length === 0) refused.push(`${label}: ${error.message}`);
    }
  }
  return { cases, kernels, refused };
}

test('Tint accepts every kernel', async (t) => {
  // A browser compiles on one core.
  const browsers = await Promise.all(Array.from({ length: Math.min(availableParallelism(), 8) }, () => launch()));
  const claimed = new Set();
  const claim = (hashes) => hashes.map((hash) => claimed.size < claimed.add(hash).size);
  t.after(() => Promise.all(browsers.map((browser) => browser.close())));
  const results = await Promise.all(
    browsers.map(async (browser, first) => {
      const { page, check } = await open(browser, process.env.BROWSER_TESTS, 'window.tests');
      await page.exposeFunction('claim', claim);
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
