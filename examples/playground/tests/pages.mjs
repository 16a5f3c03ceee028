// The pages in a browser: each loads without a message on the console, plays, and follows its controls.
//
// `checks` are functions of a page of playwright, for a test that opens the browser. Alone: `node pages.mjs URL [FOLDER]`
// with the browser's program in CHROMIUM, and pictures of all pages to the folder.

import assert from 'node:assert/strict';
import { createRequire } from 'node:module';

/** Arguments of the browser, beside those for its software driver: canvases of WebGPU need a compositor on it too. */
export const FLAGS = ['--enable-features=Vulkan', '--use-vulkan=swiftshader', '--use-angle=swiftshader'];

const numbers = (page) => page.$$eval('[data-results] tbody tr', (rows) => rows.map((row) => Number(row.cells[1].textContent)));
const show = async (page, hash, name = hash.split('?')[0].slice(1)) => {
  await page.evaluate((next) => { location.hash = next; }, hash);
  await page.waitForFunction((wanted) => document.querySelector('#page').dataset.page === wanted, name);
};
const choose = (page, label, value) => page.getByLabel(label, { exact: true }).first().selectOption(value);
const until = (page, test, argument) => page.waitForFunction(test, argument, { timeout: 120_000 });
const played = (page, steps) => until(page, (least) => Number(document.querySelector('[data-results] tbody td.number').textContent) >= least, steps);

/** Pixels of a canvas that are not transparent, right after a step. */
const painted = (page, selector) => page.evaluate((found) => {
  document.querySelector('[data-step]').click();
  const canvas = document.querySelector(found);
  const copy = new OffscreenCanvas(canvas.width, canvas.height).getContext('2d');
  copy.drawImage(canvas, 0, 0);
  return copy.getImageData(0, 0, canvas.width, canvas.height).data.filter((value, at) => at % 4 === 3 && value > 0).length;
}, selector);

export const checks = {
  async 'contours: a click moves the start, and the first motion follows within a second'(page) {
    await show(page, '#contours?show=race');
    const box = await page.locator('.stack').boundingBox();
    const seconds = await page.evaluate(async ([x, y]) => {
      const canvas = document.querySelector('.stack > canvas:last-child');
      const before = performance.now();
      for (const type of ['pointerdown', 'pointerup']) canvas.dispatchEvent(new PointerEvent(type, { clientX: x, clientY: y, pointerId: 1, bubbles: true }));
      const steps = () => Number(document.querySelector('[data-results] tbody td.number').textContent);
      while (steps() === 0) await new Promise(requestAnimationFrame);
      return (performance.now() - before) / 1000;
    }, [box.x + box.width * 0.3, box.y + box.height * 0.4]).catch((error) => { if (/setPointerCapture/.test(error)) return 0; throw error; });
    assert.ok(seconds <= 1, `${seconds} s`);
    await played(page, 30);
    await page.click('[data-play]');
    await until(page, () => location.hash.includes('start='));
  },
  async 'contours: a cloud is drawn and steps, and basins are coloured'(page) {
    await show(page, '#contours?f=himmelblau&show=cloud');
    const before = await painted(page, '.stack div canvas');
    assert.ok(before > 10_000, `${before} pixels`);
    await page.click('[data-play]');
    await played(page, 20);
    await page.click('[data-play]');
    await choose(page, 'show', 'basins');
    const all = await painted(page, '.stack div canvas');
    const cells = await page.$eval('.stack div canvas', (canvas) => canvas.width * canvas.height);
    assert.ok(all > 0.98 * cells, `${all} of ${cells} pixels`);
  },
  async 'contours: every rule and its options come from the registry'(page) {
    await show(page, '#contours?show=race');
    const rules = await page.getByLabel('rule', { exact: true }).first().locator('option').allTextContents();
    assert.ok(rules.includes('stable_adamw') && rules.length >= 25, rules.join(', '));
    for (const rule of ['lamb', 'prodigy', 'sophia']) {
      await choose(page, 'rule', rule);
      await page.click('[data-step]');
      assert.equal((await numbers(page))[0], 1);
      assert.equal(await page.locator('.error').filter({ hasText: /./ }).count(), 0);
    }
  },
  async 'contours: divergence is shown'(page) {
    await show(page, `#contours?show=race&rules=${encodeURIComponent('[{"name":"sgd","lr":5}]')}`);
    for (let i = 0; i < 12; i += 1) await page.click('[data-step]');
    assert.match(await page.textContent('[data-results]'), /diverged/);
  },
  async 'descent: keys play, step and reset; an own formula; a mistake in it is named'(page) {
    await show(page, '#descent');
    const step = () => page.$eval('.numbers b', (cell) => Number(cell.textContent));
    await page.keyboard.press('s');
    assert.equal(await step(), 1);
    await page.keyboard.press(' ');
    await until(page, () => Number(document.querySelector('.numbers b').textContent) > 20);
    await page.keyboard.press(' ');
    await page.keyboard.press('r');
    assert.equal(await step(), 0);
    await page.getByLabel('formula of x').fill('x^2 + y');
    await page.getByLabel('formula of x').blur();
    assert.match(await page.textContent('.error'), /formula of x/);
    await page.getByLabel('formula of x').fill('x^2 + cos(3*x)');
    await page.getByLabel('formula of x').blur();
    assert.equal(await page.textContent('.error'), '');
    await page.click('[data-step]');
    assert.equal(await step(), 1);
  },
  async 'surface: it is drawn, turns and has paths'(page) {
    await show(page, '#surface');
    const pixels = await painted(page, '.stack canvas');
    assert.ok(pixels > 20_000, `${pixels} pixels`);
    await page.focus('.stack');
    await page.keyboard.press('ArrowRight');
    await page.keyboard.press('+');
    await until(page, () => location.hash.includes('turn=') && location.hash.includes('zoom='));
    await page.click('[data-play]');
    await played(page, 20);
    await page.click('[data-play]');
  },
  async 'schedules: every kind is drawn without an error'(page) {
    await show(page, '#schedules');
    const kinds = await page.getByLabel('kind').first().locator('option').allTextContents();
    assert.ok(kinds.length >= 19, kinds.join(', '));
    for (const kind of kinds) {
      await choose(page, 'kind', kind);
      assert.equal(await page.textContent('.error'), '', kind);
    }
    await page.click('[data-add]');
    assert.equal(await page.locator('.entry').count(), 4);
  },
  async 'minima: momentum leaves the saddle first, SAM the sharp well'(page) {
    await show(page, '#minima');
    await page.selectOption('[data-speed]', '10');
    await page.click('[data-play]');
    await until(page, () => Number(document.querySelectorAll('[data-results]')[1].querySelector('td.number').textContent) >= 400);
    await page.click('[data-play]');
    const steps = await page.locator('[data-results]').first().locator('tbody tr td:last-child').allTextContents();
    const [sgd, momentum] = steps.map((text) => Number.parseInt(text, 10));
    assert.ok(momentum < sgd, steps.join(', '));
    const values = await page.locator('[data-results]').nth(1).locator('tbody tr td:nth-child(3)').allTextContents();
    assert.notEqual(values[0], values[1]);
  },
  async 'network: it passes 95 % on the drawn digits, and answers'(page) {
    await show(page, '#network');
    await page.selectOption('[data-speed]', '10');
    await page.click('[data-play]');
    await until(page, () => Number(document.querySelector('[data-numbers]').dataset.accuracy) >= 95);
    await page.click('[data-example]');
    await until(page, () => document.querySelector('[data-answer]').children.length === 30);
    for (const [label, value] of [['optimizer', 'lion'], ['precision', 'bf16']]) {
      await choose(page, label, value);
      const step = Number(await page.getAttribute('[data-numbers]', 'data-step'));
      await until(page, (before) => Number(document.querySelector('[data-numbers]').dataset.step) > before + 5, step);
    }
    assert.equal(await page.locator('.error').filter({ hasText: /./ }).count(), 0);
    await page.click('[data-play]');
  },
  async 'network: without clipping a huge rate explodes, with clipping it does not'(page) {
    await show(page, '#network');
    await page.click('[data-explode="on"]');
    await until(page, () => Number(document.querySelector('[data-numbers]').dataset.step) > 20);
    assert.doesNotMatch(await page.textContent('[data-numbers]'), /exploded/);
    await page.click('[data-explode="off"]');
    await until(page, () => /exploded|not finite/.test(document.querySelector('[data-numbers]').textContent));
    await page.click('[data-play]');
  },
  async 'a link shows what its sender saw; nothing moves by itself'(page) {
    await show(page, '#contours?f=bowl&show=race');
    assert.equal(await page.getByLabel('function', { exact: true }).inputValue(), 'bowl');
    await page.waitForTimeout(300);
    assert.deepEqual([...new Set(await numbers(page))], [0]);
  },
  async 'every control has a name, and no page is wider than a phone'(page) {
    await page.setViewportSize({ width: 390, height: 844 });
    for (const name of ['contours', 'descent', 'surface', 'schedules', 'minima', 'network']) {
      await show(page, `#${name}`);
      const nameless = await page.$$eval('input, select, button, textarea, a', (all) =>
        all.filter((one) => !(one.labels?.length || one.textContent.trim() || one.getAttribute('aria-label'))).map((one) => one.outerHTML));
      assert.deepEqual(nameless, []);
      const wide = await page.evaluate(() => document.documentElement.scrollWidth);
      assert.ok(wide <= 390, `${name} is ${wide} pixels wide`);
    }
    await page.setViewportSize({ width: 1200, height: 900 });
  },
};

/** Pictures of the pages, after they have played for a while. */
export async function pictures(page, folder) {
  const pages = [['contours', '#contours?f=himmelblau', 40], ['basins', '#contours?f=himmelblau&show=basins', 60], ['surface', '#surface', 60], ['minima', '#minima', 200], ['descent', '#descent', 30]];
  for (const [name, hash, steps] of pages) {
    await show(page, hash, hash.slice(1).split('?')[0]);
    await page.evaluate((count) => { for (let i = 0; i < count; i += 1) document.querySelector('[data-step]').click(); }, steps);
    await page.waitForTimeout(1000);
    await page.screenshot({ path: `${folder}/${name}.png` });
  }
  await show(page, '#schedules');
  await page.screenshot({ path: `${folder}/schedules.png` });
}

async function alone([url, folder]) {
  const { chromium } = createRequire(new URL('../../../tests/browser/', import.meta.url))('playwright-core');
  const args = ['--headless=new', '--no-sandbox', '--enable-unsafe-webgpu', '--use-webgpu-adapter=swiftshader', ...FLAGS];
  const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', args });
  let failed = 0;
  for (const query of ['', '?device=cpu']) {
    const page = await browser.newPage({ viewport: { width: 1200, height: 900 } });
    const messages = [];
    page.on('console', (message) => { if (['error', 'warning'].includes(message.type())) messages.push(message.text()); });
    page.on('pageerror', (error) => messages.push(String(error.stack ?? error)));
    await page.goto(url + query);
    await page.waitForFunction(() => document.documentElement.dataset.ready);
    console.log(await page.textContent('#device'));
    for (const [name, check] of Object.entries(checks)) {
      const before = Date.now();
      try {
        await check(page);
        assert.deepEqual(messages.splice(0), []);
        console.log(`ok   ${name} (${((Date.now() - before) / 1000).toFixed(1)} s)`);
      } catch (error) {
        failed += 1;
        console.log(`FAIL ${name}: ${error.stack ?? error}\n${messages.splice(0).join('\n')}`);
      }
    }
    if (folder && !query) await pictures(page, folder);
    await page.close();
  }
  await browser.close();
  process.exitCode = failed ? 1 : 0;
}

if (process.argv[1] && import.meta.url.endsWith(process.argv[1].split('/').at(-1)) && process.argv[2]) await alone(process.argv.slice(2));
