// Visits pages in headless Chromium. visit.mjs SHOTS: SHOTS is a directory for
// screenshots, or - for none; standard input is a JSON list of {url, token, steps},
// the token for a page that asks for one, and steps what is done once it is verified:
// {click: SELECTOR}, or {entry: N} to go there by keyboard; after each, focus is where
// {focus: ID} says, or other entries are shown. Nothing but the loopback address is
// reachable.
import { chromium } from 'playwright-core';
import { readFileSync } from 'node:fs';

const [shots] = process.argv.slice(2);
const calls = JSON.parse(readFileSync(0, 'utf8'));
const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
  args: ['--no-sandbox', '--disable-background-networking', '--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1'],
});

// faults is what a reader with a keyboard or a screen reader would stumble over.
function faults() {
  const found = [];
  const say = (what, e) => found.push(`${what}: ${e.outerHTML.slice(0, 120)}`);
  for (const name of ['header', 'main', 'footer', 'h1']) if (document.querySelectorAll(name).length !== 1) found.push(`not one ${name}`);
  if (!document.documentElement.lang || !document.title) found.push('no language or title');
  for (const e of document.querySelectorAll('input')) if (!e.labels.length) say('no label', e);
  for (const e of document.querySelectorAll('section')) if (!document.getElementById(e.getAttribute('aria-labelledby'))?.textContent) say('no name', e);
  let level = 0;
  for (const e of document.querySelectorAll('h1,h2,h3')) { const n = Number(e.tagName[1]); if (n > level + 1) say('skips a level', e); level = n; }
  const ids = [...document.querySelectorAll('[id]')].map((e) => e.id);
  if (new Set(ids).size !== ids.length) found.push('an id stands twice');
  if (document.documentElement.scrollWidth > innerWidth) found.push(`wider than the window by ${document.documentElement.scrollWidth - innerWidth}`);
  const rgb = (s) => { const m = s.match(/[\d.]+/g).map(Number); return { c: m.slice(0, 3), a: m[3] ?? 1 }; };
  const light = ({ c }) => { const [r, g, b] = c.map((x) => ((x /= 255) <= 0.03928 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4)); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const behind = (e) => { for (; e; e = e.parentElement) { const b = rgb(getComputedStyle(e).backgroundColor); if (b.a === 1) return b; } return { c: [255, 255, 255] }; };
  for (const e of document.querySelectorAll('body *')) {
    if (![...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim()) || !e.checkVisibility()) continue;
    const [a, b] = [light(rgb(getComputedStyle(e).color)), light(behind(e))].sort((x, y) => y - x);
    if ((a + 0.05) / (b + 0.05) < 4.5) say(`contrast ${((a + 0.05) / (b + 0.05)).toFixed(1)}`, e);
  }
  return found;
}

// focus goes to a field as a keyboard does, and fails where Tab does not lead there.
async function focus(page, id) {
  for (let i = 0; i < 1000; i++) { // of a page of the trail each entry has two
    if (await page.evaluate(() => document.activeElement.id) === id) return;
    await page.keyboard.press('Tab');
  }
  throw new Error(`Tab does not lead to ${id}`);
}

// take takes a step, and says what is shown then.
async function take(page, { click, entry, focus: id }) {
  const shown = await page.textContent('#shown');
  if (click) {
    await page.click(click);
  } else {
    await focus(page, 'entry');
    await page.fill('#entry', String(entry));
    await page.keyboard.press('Enter');
  }
  if (id) await page.waitForFunction((id) => document.activeElement.id === id, id);
  else await page.waitForFunction((shown) => document.getElementById('shown').textContent !== shown, shown);
  return page.evaluate(() => {
    const list = [...document.querySelectorAll('#trail > li')];
    const { top, bottom } = document.activeElement.getBoundingClientRect();
    return {
      shown: document.getElementById('shown').textContent, first: list[0].id, last: list[list.length - 1].id, active: document.activeElement.id,
      visible: top < innerHeight && bottom > 0, marks: [...new Set(list.map((e) => e.querySelector('.chip').textContent))],
      disabled: ['newest', 'later', 'earlier'].filter((id) => document.getElementById(id).disabled),
    };
  });
}

async function visit({ url, token, steps = [] }, n) {
  const page = await browser.newPage({ viewport: { width: 1280, height: 900 } });
  const trouble = [];
  page.on('dialog', (d) => { trouble.push(`dialog: ${d.message()}`); d.dismiss(); });
  const denied = (text) => token && /status of 40[13]/.test(text); // which is the browser's word for being asked for a token
  page.on('console', (m) => { if (m.type() === 'error' && !denied(m.text())) trouble.push(m.text()); });
  page.on('pageerror', (e) => trouble.push(String(e)));
  page.on('request', (r) => { if (new URL(r.url()).host !== new URL(url).host) trouble.push(`asks ${r.url()}`); });
  await page.goto(url);
  await page.waitForSelector('html[data-ready]');
  let locked = '';
  const shoot = (name) => shots === '-' || page.screenshot({ path: `${shots}/${n}-${name}.png`, fullPage: true });
  if (token) {
    locked = await page.innerText('main');
    await shoot('locked');
    await focus(page, 'token');
    await page.keyboard.insertText(token);
    await page.keyboard.press('Enter');
    await page.waitForSelector('html[data-ready="2"]'); // read a second time
  }
  const before = await page.textContent('#verdict');
  await shoot('read');
  // By keyboard alone: over the skip link into the field, and Enter.
  await focus(page, 'key');
  await page.keyboard.press('Enter');
  await page.waitForFunction(() => !document.getElementById('verify').disabled);
  await shoot('verified');
  const seen = { locked, before, ...await page.evaluate(() => ({
    title: document.title, status: document.getElementById('status').textContent,
    verdict: document.getElementById('verdict').innerText, kind: document.getElementById('verdict').className,
    contract: document.getElementById('contract').innerText, parties: document.getElementById('parties').innerText, runs: document.getElementById('runs').innerText,
    trail: [...document.querySelectorAll('#trail > li')].map((e) => ({ id: e.id, kind: e.className, text: e.innerText })),
    foreign: document.querySelectorAll('body script, body img, body iframe, body svg, main a').length,
  })) };
  seen.steps = [];
  for (const step of steps) seen.steps.push(await take(page, step));
  if (steps.length) await (shots === '-' || page.screenshot({ path: `${shots}/${n}-paged.png` }));
  seen.faults = await page.evaluate(faults);
  await page.emulateMedia({ colorScheme: 'dark' });
  seen.faults.push(...(await page.evaluate(faults)).map((f) => `dark: ${f}`));
  await shoot('dark');
  await page.setViewportSize({ width: 360, height: 740 });
  await shoot('narrow-dark');
  await page.emulateMedia({ colorScheme: 'light' });
  seen.faults.push(...(await page.evaluate(faults)).map((f) => `narrow: ${f}`));
  await shoot('narrow');
  seen.trouble = trouble;
  console.log(JSON.stringify(seen));
  await page.close();
}

for (const [n, call] of calls.entries()) await visit(call, n);
await browser.close();
