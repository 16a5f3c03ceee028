// The playground: every page loads without a message on the console, plays and follows its controls.

import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import { after, before, describe, test } from 'node:test';
import { gzipSync } from 'node:zlib';
import { launch, open } from './harness.mjs';

const AXE = createRequire(import.meta.url).resolve('axe-core/axe.min.js');
/** Canvases of WebGPU need a compositor on the software driver. */
const CANVAS_FLAGS = ['--enable-features=Vulkan', '--use-vulkan=swiftshader', '--use-angle=swiftshader'];
const PAGES = ['contours', 'descent', 'surface', 'schedules', 'minima', 'network'];
const WIDE = { width: 1200, height: 900 };
const PHONE = { width: 390, height: 844 };
/** A folder for pictures of all pages; none are taken without it. */
const PICTURES = process.env.PICTURES;
/** A software driver on two loaded cores takes a minute to train the network. */
const TIMEOUT_MS = 240_000;

let page, check;

const url = (query = '') => process.env.PLAYGROUND && process.env.PLAYGROUND + query;
const load = async (browser, query = '', options = {}) => {
  await page?.close();
  ({ page, check } = await open(browser, url(query), 'document.documentElement.dataset.ready', { viewport: WIDE, ...options }));
};

/** Shows the page of an address's hash, with its state as in the address. */
async function show(hash) {
  await page.evaluate((next) => { location.hash = next; }, hash);
  await page.waitForFunction((wanted) => document.querySelector('#page').dataset.page === wanted, hash.slice(1).split('?')[0]);
}

const until = (condition, argument) => page.waitForFunction(condition, argument, { timeout: TIMEOUT_MS });
const choose = (label, value) => page.getByLabel(label, { exact: true }).first().selectOption(value);
const toggle = () => page.click('[data-play]');
const stepOnce = () => page.click('[data-step]');
const errors = () => page.locator('.error').filter({ hasText: /./ }).allTextContents();

/** Steps of the racers, in the order of the table. */
const steps = () => page.$$eval('[data-results] tbody tr', (rows) => rows.map((row) => Number(row.cells[1].textContent)));

/** Plays until the first racer of the `table`th table has taken so many steps. */
async function play(least, table = 0) {
  await toggle();
  await until(
    ([least, table]) => Number(document.querySelectorAll('[data-results]')[table].querySelector('td.number').textContent) >= least,
    [least, table],
  );
  await toggle();
}

/** Pixels of a canvas that are not transparent, right after a step; and all its pixels. */
const painted = (selector) => page.evaluate((selector) => {
  document.querySelector('[data-step]').click();
  const canvas = document.querySelector(selector);
  const copy = new OffscreenCanvas(canvas.width, canvas.height).getContext('2d');
  copy.drawImage(canvas, 0, 0);
  const { data } = copy.getImageData(0, 0, canvas.width, canvas.height);
  return [data.filter((value, at) => at % 4 === 3 && value > 0).length, canvas.width * canvas.height];
}, selector);

const network = () => page.$eval('[data-numbers]', ({ dataset, textContent }) => ({ ...dataset, text: textContent }));
const trained = (least) => until((least) => Number(document.querySelector('[data-numbers]').dataset.step) >= least, least);

/** An IDX file: images of 28 by 28 pixels, all of one brightness, or labels. */
function idx(dimensions, bytes) {
  const head = Buffer.alloc(4 + 4 * dimensions.length);
  head.set([0, 0, 8, dimensions.length]);
  dimensions.forEach((size, at) => head.writeUInt32BE(size, 4 + 4 * at));
  return Buffer.concat([head, Buffer.from(bytes)]);
}
const images = (count, brightness) => idx([count, 28, 28], new Uint8Array(count * 784).fill(brightness));
const labels = (count) => idx([count], Array.from({ length: count }, (_, at) => at % 10));

/** Drops files, `[name, bytes]` each, on the page's field for them. */
async function drop(files) {
  const list = files.map(([name, bytes]) => [name, bytes.toString('base64')]);
  const dataTransfer = await page.evaluateHandle((list) => {
    const transfer = new DataTransfer();
    for (const [name, text] of list) transfer.items.add(new File([Uint8Array.from(atob(text), (c) => c.charCodeAt(0))], name));
    return transfer;
  }, list);
  await page.dispatchEvent('.drop', 'drop', { dataTransfer });
}

/** Violations of WCAG 2 A and AA that axe finds on what is shown. */
const violations = () => page.evaluate(async () => {
  const { violations } = await window.axe.run(document, { runOnly: ['wcag2a', 'wcag2aa'] });
  return violations.flatMap(({ id, nodes }) => nodes.map(({ target, failureSummary }) => `${id}: ${target}: ${failureSummary}`));
});

/** A test on the loaded page, which may print nothing. */
const shows = (name, body) => test(name, { timeout: 2 * TIMEOUT_MS }, async (t) => {
  await body(t);
  assert.deepEqual(await page.$$eval('#device .warn', (found) => found.map((one) => one.textContent)), []);
  check();
});

describe('on WebGPU', () => {
  let browser;
  before(async () => {
    browser = await launch(CANVAS_FLAGS);
    await load(browser);
  });
  after(() => browser?.close());

  shows('the page names the device', async () => {
    assert.match(await page.textContent('#device'), /^Running on WebGPU/);
  });

  shows('contours: a click moves the start and plays', async (t) => {
    await show('#contours?show=race');
    await page.evaluate(() => {
      const steps = () => Number(document.querySelector('[data-results] td.number').textContent);
      addEventListener('pointerup', () => {
        const clicked = performance.now();
        const look = () => { if (steps() > 0) window.firstMotion = performance.now() - clicked; else requestAnimationFrame(look); };
        look();
      }, { capture: true, once: true });
    });
    const box = await page.locator('.stack').boundingBox();
    await page.mouse.click(box.x + box.width * 0.3, box.y + box.height * 0.4);
    await until(() => window.firstMotion !== undefined);
    t.diagnostic(`first motion ${Math.round(await page.evaluate('window.firstMotion'))} ms after the click`);
    await until(() => location.hash.includes('start='));
    await toggle();
  });

  shows('contours: a cloud is drawn and steps, and basins are coloured', async (t) => {
    await show('#contours?f=himmelblau&show=cloud');
    const [points] = await painted('.stack div canvas');
    assert.ok(points > 10_000, `${points} pixels`);
    await play(20);
    t.diagnostic(await page.textContent('[role=group] > span'));
    await choose('show', 'basins');
    const [cells, all] = await painted('.stack div canvas');
    assert.ok(cells > 0.98 * all, `${cells} of ${all} pixels`);
  });

  shows('another function brings its start and its rates', async () => {
    for (const name of ['contours?show=race', 'surface']) {
      await show(`#${name}`);
      await choose('function', 'bowl');
      await until(() => ['f=bowl', 'start=', 'rules='].every((part) => location.hash.includes(part)));
      assert.equal(await page.getByLabel('lr, as a number').first().inputValue(), '0.15');
      await stepOnce();
      assert.deepEqual([(await steps())[0], await errors()], [1, []]);
    }
  });

  shows('contours: every rule and its options come from the registry', async () => {
    await show('#contours?show=race');
    const rules = await page.getByLabel('rule', { exact: true }).first().locator('option').allTextContents();
    assert.ok(rules.includes('stable_adamw') && rules.length >= 25, rules.join(', '));
    for (const rule of ['lamb', 'prodigy', 'sophia']) {
      await choose('rule', rule);
      await stepOnce();
      assert.equal((await steps())[0], 1);
      assert.deepEqual(await errors(), []);
    }
  });

  shows('contours: divergence is shown', async () => {
    await show(`#contours?show=race&rules=${encodeURIComponent('[{"name":"sgd","lr":5}]')}`);
    for (let i = 0; i < 12; i += 1) await stepOnce();
    assert.match(await page.textContent('[data-results]'), /diverged/);
  });

  shows('contours: a link shows what its sender saw, and nothing moves by itself', async () => {
    await show('#contours?f=bowl&show=race');
    assert.equal(await page.getByLabel('function', { exact: true }).inputValue(), 'bowl');
    await page.waitForTimeout(300);
    assert.deepEqual([...new Set(await steps())], [0]);
  });

  shows('descent: keys play, step and reset; a mistake in a formula is named', async () => {
    await show('#descent');
    const step = () => page.$eval('.numbers b', (cell) => Number(cell.textContent));
    await page.keyboard.press('s');
    assert.equal(await step(), 1);
    await page.keyboard.press(' ');
    await until(() => Number(document.querySelector('.numbers b').textContent) > 20);
    await page.keyboard.press(' ');
    await page.keyboard.press('r');
    assert.equal(await step(), 0);
    const formula = page.getByLabel('formula of x');
    await formula.fill('x^2 + y');
    await formula.blur();
    assert.match(await page.textContent('.error'), /formula of x/);
    await formula.fill('x^2 + cos(3*x)');
    await formula.blur();
    assert.deepEqual(await errors(), []);
    await stepOnce();
    assert.equal(await step(), 1);
  });

  shows('surface: it is drawn, turns and has paths', async () => {
    await show('#surface');
    const [pixels] = await painted('.stack canvas');
    assert.ok(pixels > 20_000, `${pixels} pixels`);
    await page.focus('.stack');
    await page.keyboard.press('ArrowRight');
    await page.keyboard.press('+');
    await until(() => location.hash.includes('turn=') && location.hash.includes('zoom='));
    await play(20);
  });

  shows('schedules: every kind is drawn without an error', async () => {
    await show('#schedules');
    const kinds = await page.getByLabel('kind').first().locator('option').allTextContents();
    assert.ok(kinds.length >= 19, kinds.join(', '));
    for (const kind of kinds) {
      await choose('kind', kind);
      assert.deepEqual(await errors(), [], kind);
    }
    await page.click('[data-add]');
    assert.equal(await page.locator('.entry').count(), 4);
  });

  shows('minima: momentum leaves the saddle first, SAM the sharp well', async () => {
    await show('#minima');
    await page.selectOption('[data-speed]', '10');
    await play(400, 1);
    const arrivals = await page.locator('[data-results]').first().locator('tbody tr td:last-child').allTextContents();
    const [sgd, momentum] = arrivals.map((text) => Number.parseInt(text, 10));
    assert.ok(momentum < sgd, arrivals.join(', '));
    const values = await page.locator('[data-results]').nth(1).locator('tbody tr td:nth-child(3)').allTextContents();
    assert.notEqual(values[0], values[1]);
  });

  shows('network: the numbers of a single step arrive', async () => {
    await show('#network');
    await stepOnce();
    await trained(1);
  });

  shows('network: it reads 95 % of the drawn digits, and answers', async (t) => {
    await show('#network');
    await page.selectOption('[data-speed]', '10');
    const begun = Date.now();
    await toggle();
    await until(() => Number(document.querySelector('[data-numbers]').dataset.accuracy) >= 95);
    const { accuracy, step } = await network();
    t.diagnostic(`${accuracy} % after ${step} steps, ${((Date.now() - begun) / 1000).toFixed(1)} s`);
    await page.click('[data-example]');
    await until(() => document.querySelector('[data-answer]').children.length === 30);
  });

  shows('network: optimizer, schedule and precision change while it trains', async () => {
    for (const [label, value] of [['optimizer', 'lion'], ['schedule', 'warm-up and cosine, 2 epochs'], ['precision', 'bf16']]) {
      await choose(label, value);
      await trained(Number((await network()).step) + 20);
    }
    assert.deepEqual(await errors(), []);
    await toggle();
  });

  shows('network: a huge rate explodes without clipping, and learns with it', async () => {
    await show('#network');
    await page.click('[data-explode="off"]');
    await until(() => /exploded/.test(document.querySelector('[data-numbers]').textContent));
    await page.click('[data-explode="on"]');
    await until(() => Number(document.querySelector('[data-numbers]').dataset.accuracy) >= 50);
    assert.doesNotMatch((await network()).text, /exploded|not finite/);
    await toggle();
  });

  shows('network: dropped IDX files are read, and others are refused with a reason', async () => {
    await show('#network');
    await page.click('[data-reset]');
    const files = [
      ['train-images-idx3-ubyte.gz', gzipSync(images(128, 200))], ['train-labels-idx1-ubyte', labels(128)],
      ['t10k-images-idx3-ubyte', images(20, 90)], ['t10k-labels-idx1-ubyte', labels(20)],
    ];
    await drop(files.slice(0, 3));
    await until(() => document.querySelector('.error').textContent.includes('t10k-labels'));
    await drop(files.with(1, [files[1][0], labels(127)]));
    await until(() => document.querySelector('.error').textContent.includes('the training labels'));
    await drop(files);
    await until(() => document.querySelector('.error').textContent === '');
    await page.click('[data-example]');
    const pad = await page.$eval('.pad', (pad) => [...pad.getContext('2d').getImageData(14, 14, 1, 1).data]);
    assert.deepEqual(pad, [90, 90, 90, 255]);
    // Two batches are an epoch.
    await toggle();
    await trained(5);
    await toggle();
  });

  shows('no page is wider than a phone', async () => {
    await page.setViewportSize(PHONE);
    for (const name of PAGES) {
      await show(`#${name}`);
      const wide = await page.evaluate(() => document.documentElement.scrollWidth);
      assert.ok(wide <= PHONE.width, `${name} is ${wide} pixels wide`);
    }
    await page.setViewportSize(WIDE);
  });

  for (const colorScheme of ['light', 'dark']) {
    shows(`axe finds nothing in ${colorScheme} colours`, async () => {
      await page.emulateMedia({ colorScheme });
      await page.addScriptTag({ path: AXE });
      for (const name of PAGES) {
        await show(`#${name}`);
        await page.evaluate(() => { for (const one of document.querySelectorAll('details')) one.open = true; });
        assert.deepEqual(await violations(), [], name);
      }
    });
  }

  shows('with reduced motion, few pictures make as many steps', async () => {
    await page.emulateMedia({ reducedMotion: 'reduce' });
    await show('#descent');
    const drawn = await page.evaluate(() => new Promise((resolve) => {
      const cell = document.querySelector('.numbers');
      const times = [];
      const observer = new MutationObserver(() => {
        times.push(performance.now());
        if (times.length < 3) return;
        observer.disconnect();
        resolve({ ms: times[2] - times[0], steps: Number(cell.querySelector('b').textContent) });
      });
      observer.observe(cell, { childList: true });
      document.querySelector('[data-play]').click();
    }));
    await toggle();
    assert.ok(drawn.ms >= 780 && drawn.steps >= 40, JSON.stringify(drawn));
  });

  if (PICTURES) {
    for (const [suffix, media, viewport] of [['', {}, WIDE], ['-dark', { colorScheme: 'dark' }, WIDE], ['-phone', {}, PHONE]]) {
      test(`pictures${suffix}`, async () => {
        await load(browser, '', { viewport, ...media });
        for (const [name, hash, count] of [
          ['contours', '#contours?f=himmelblau', 40], ['basins', '#contours?f=himmelblau&show=basins', 60], ['surface', '#surface', 60],
          ['minima', '#minima', 200], ['descent', '#descent', 30], ['schedules', '#schedules', 0], ['network', '#network', 60],
        ]) {
          await show(hash);
          for (let i = 0; i < count; i += 20) {
            await page.evaluate((count) => { for (let i = 0; i < count; i += 1) document.querySelector('[data-step]').click(); }, Math.min(20, count));
            await page.waitForTimeout(300);
          }
          await page.waitForTimeout(1000);
          await page.screenshot({ path: `${PICTURES}/${name}${suffix}.png`, fullPage: true });
        }
      });
    }
  }
});

describe('on the CPU engine', () => {
  let browser;
  before(async () => {
    browser = await launch([], { webgpu: false });
    await load(browser, '', { expected: /^No available adapters\.$/ });
  });
  after(() => browser?.close());

  shows('a browser without an adapter is named', async () => {
    assert.match(await page.textContent('#device'), /CPU engine, as this browser offers no WebGPU/);
  });

  shows('contours: a cloud is drawn and steps', async () => {
    await show('#contours?f=himmelblau');
    const [points] = await painted('.stack div canvas');
    assert.ok(points > 10_000, `${points} pixels`);
    await play(10);
  });

  shows('surface: it is drawn and has paths', async () => {
    await show('#surface');
    const [pixels] = await painted('.stack canvas');
    assert.ok(pixels > 20_000, `${pixels} pixels`);
    await play(10);
  });

  for (const name of ['descent', 'schedules', 'minima']) {
    shows(`${name}: it loads and plays`, async () => {
      await show(`#${name}`);
      if (name === 'minima') await play(10);
      if (name === 'descent') await stepOnce();
      assert.deepEqual(await errors(), []);
    });
  }

  shows('network: it learns', async () => {
    await show('#network');
    await page.selectOption('[data-speed]', '10');
    await toggle();
    await until(() => Number(document.querySelector('[data-numbers]').dataset.accuracy) >= 60);
    await toggle();
    assert.deepEqual(await errors(), []);
  });

  shows('so is one without WebGPU', async () => {
    await load(browser, '', { prepare: () => { delete Navigator.prototype.gpu; } });
    assert.equal(await page.evaluate('navigator.gpu'), undefined);
    assert.match(await page.textContent('#device'), /CPU engine, as this browser offers no WebGPU/);
    await play(3);
  });

  shows('a page asked to use the CPU engine does', async () => {
    await load(browser, '?device=cpu');
    assert.match(await page.textContent('#device'), /CPU engine, as the page was asked to/);
    await show('#contours');
    await play(3);
  });
});
