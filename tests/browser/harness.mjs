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
];
/** The software driver: machines for tests have no other. */
const WEBGPU_FLAGS = ['--enable-unsafe-webgpu', '--use-webgpu-adapter=swiftshader'];

/** A browser. `flags`: further arguments of the program. */
export function launch(flags = [], { webgpu = true } = {}) {
  const executablePath = process.env.CHROMIUM;
  assert.ok(executablePath, 'CHROMIUM names no program; run `cargo xtask browser`');
  return chromium.launch({ executablePath, headless: true, args: ['--headless=new', ...FLAGS, ...(webgpu ? WEBGPU_FLAGS : []), ...flags] });
}

/**
 * A page of the browser on which an expression has become true, and a function that fails if errors or warnings came
 * since its last call. `options`: Playwright's for a page; `expected`, a pattern of messages that may come; `prepare`, a
 * script that runs before the page's own.
 */
export async function open(browser, url, ready, { expected, prepare, ...options } = {}) {
  assert.ok(url, 'no address; run `cargo xtask browser`');
  const page = await browser.newPage(options);
  const problems = [];
  page.on('console', (message) => {
    if (['error', 'warning'].includes(message.type()) && !expected?.test(message.text())) problems.push(`${message.type()}: ${message.text()}`);
  });
  page.on('pageerror', (error) => problems.push(`uncaught: ${error.stack ?? error}`));
  page.on('requestfailed', (request) => problems.push(`failed: ${request.url()}`));
  page.on('request', (request) => {
    const { protocol, origin } = new URL(request.url());
    if (!['data:', 'blob:'].includes(protocol) && origin !== new URL(url).origin) problems.push(`elsewhere: ${request.url()}`);
  });
  const check = () => assert.deepEqual(problems.splice(0), []);
  if (prepare) await page.addInitScript(prepare);
  await page.goto(url);
  await page.waitForFunction(ready).catch((error) => {
    check();
    throw error;
  });
  return { page, check };
}
