// Measures how a page loads: load.mjs URL prints JSON of milliseconds until its
// newest entries are shown, until the record is read, and until it is verified, and
// of the script heap in bytes after each garbage collection then.
import { chromium } from 'playwright-core';

const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', args: ['--no-sandbox', '--disable-background-networking'] });
const page = await browser.newPage({ viewport: { width: 1280, height: 900 } });
page.setDefaultTimeout(600_000);
const devtools = await page.context().newCDPSession(page);
const heap = async () => {
  await devtools.send('HeapProfiler.collectGarbage');
  return (await devtools.send('Runtime.getHeapUsage')).usedSize;
};
const start = Date.now();
await page.goto(process.argv[2]);
await page.waitForSelector('html[data-shown]');
const shown = Date.now() - start;
await page.waitForSelector('html[data-ready]');
const read = Date.now() - start;
const heapRead = await heap();
const pressed = Date.now();
await page.click('#verify');
await page.waitForFunction(() => !document.getElementById('verify').disabled);
const verified = Date.now() - pressed;
console.log(JSON.stringify({ shown, read, verified, heapRead, heapVerified: await heap(), verdict: await page.innerText('#verdict strong') }));
await browser.close();
