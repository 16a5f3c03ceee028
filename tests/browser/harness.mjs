// Chromium with WebGPU, and pages in it that may print no error.

import assert from 'node:assert/strict';
import { chromium } from 'playwright-core';

const FLAGS = [
  '--no-sandbox',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
  '--enable-unsafe-webgpu',
  // The software driver: machines for tests have no other.
  '--use-webgpu-adapter=swiftshader',
];

/** A browser. `flags`: further arguments of the program. */
export function launch(flags = []) {
  const executablePath = process.env.CHROMIUM;
  assert.ok(executablePath, 'CHROMIUM names no program; run `cargo xtask browser`');
  return chromium.launch({ executablePath, headless: true, args: ['--headless=new', ...FLAGS, ...flags] });
}

/**
 * A page of the browser on which an expression has become true, and a function that fails if errors or warnings came
 * since its last call. `options`: Playwright's for a page.
 */
export async function open(browser, url, ready, options = {}) {
  assert.ok(url, 'no address; run `cargo xtask browser`');
  const page = await browser.newPage(options);
  const problems = [];
  page.on('console', (message) => {
    if (['error', 'warning'].includes(message.type())) problems.push(`${message.type()}: ${message.text()}`);
  });
  page.on('pageerror', (error) => problems.push(`uncaught: ${error.stack ?? error}`));
  page.on('requestfailed', (request) => problems.push(`failed: ${request.url()}`));
  page.on('request', (request) => {
    const { protocol, origin } = new URL(request.url());
    if (!['data:', 'blob:'].includes(protocol) && origin !== new URL(url).origin) problems.push(`elsewhere: ${request.url()}`);
  });
  const check = () => assert.deepEqual(problems.splice(0), []);
  await page.goto(url);
  await page.waitForFunction(ready).catch((error) => {
    check();
    throw error;
  });
  return { page, check };
}
