// @ts-check
// What pages can do besides their links and forms: a slider, keys, a refresh. Without it everything can be reached all the same.

/** @type {<T extends Element>(selector: string) => T | null} */
const find = (selector) => document.querySelector(selector);

/** Puts what an address shows in the place of what is shown, of which the newest that was asked for counts. */
let asked = 0;
/** @param {string} address @param {boolean} isNew */
async function show(address, isNew) {
  const turn = ++asked;
  const answer = await fetch(address, { headers: { accept: 'text/html' } }).catch(() => undefined);
  const text = answer?.ok ? await answer.text() : undefined;
  const live = find('#live');
  if (turn !== asked || live === null) return false;
  live.classList.toggle('stale', text === undefined);
  if (text === undefined) return false;
  const next = new DOMParser().parseFromString(text, 'text/html');
  const [focused, place] = [document.activeElement, live.querySelectorAll('[data-slider]')];
  const isSliding = focused instanceof HTMLInputElement && focused.matches('[data-slider]') && place.length > 0;
  const open = [...live.querySelectorAll('details')].map((each) => each.open);
  live.replaceWith(/** @type {Element} */ (next.querySelector('#live')));
  document.querySelectorAll('#live details').forEach((each, index) => {
    /** @type {HTMLDetailsElement} */ (each).open = open[index] ?? false;
  });
  document.body.className = next.body.className;
  document.title = next.title;
  if (isNew) history.replaceState(null, '', address);
  prepare();
  if (isSliding) /** @type {HTMLInputElement | null} */ (find('[data-slider]'))?.focus();
  return true;
}

/** @param {HTMLInputElement} slider */
function momentAt(slider) {
  const stops = slider.dataset.stops?.split('|');
  if (stops !== undefined) return (stops[Number(slider.value)] ?? '').replace(/\+00$/, '');
  const [from, to] = [read(slider.dataset.from), read(slider.dataset.to)];
  const at = new Date(from + ((to - from) * Number(slider.value)) / Number(slider.max));
  return at.toISOString().slice(0, 19).replace('T', ' ');
}
/** @param {string | undefined} moment milliseconds of a moment in UTC */
const read = (moment) => Date.parse(`${(moment ?? '').replace(' ', 'T').replace(/\+00$/, '').slice(0, 23)}Z`);

/** @param {string} moment */
function addressAt(moment) {
  const address = new URL(location.href);
  address.searchParams.delete('after');
  if (moment === '') address.searchParams.delete('as_of');
  else address.searchParams.set('as_of', moment);
  return address.pathname + address.search;
}

/** What the server leaves to the script: it shows the slider and the calendar, and says the local time of each moment. */
function prepare() {
  for (const time of document.querySelectorAll('time[datetime]')) {
    const at = new Date(time.getAttribute('datetime') ?? '');
    if (!Number.isNaN(at.getTime()))
      time.setAttribute('title', at.toLocaleString(undefined, { dateStyle: 'full', timeStyle: 'long' }));
  }
  const slider = /** @type {HTMLInputElement | null} */ (find('[data-slider]'));
  const picker = /** @type {HTMLInputElement | null} */ (find('[data-picker]'));
  if (slider !== null) {
    const at = read(slider.dataset.at);
    const stops = slider.dataset.stops?.split('|').map(read);
    const [from, to] = [read(slider.dataset.from), read(slider.dataset.to)];
    const part =
      stops === undefined
        ? Math.round((1000 * (at - from)) / Math.max(1, to - from))
        : Math.max(0, stops.filter((stop) => stop <= at).length - 1);
    slider.value = String(part);
    slider.hidden = slider.max === '0';
    slider.setAttribute('aria-valuetext', `${momentAt(slider)} UTC`);
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    let waiting;
    slider.addEventListener('input', () => {
      slider.setAttribute('aria-valuetext', `${momentAt(slider)} UTC`);
      const field = /** @type {HTMLInputElement | null} */ (find('.moment [name=as_of]'));
      if (field !== null) field.value = momentAt(slider);
      clearTimeout(waiting);
      waiting = setTimeout(() => void show(addressAt(momentAt(slider)), true), 120);
    });
  }
  if (picker !== null) {
    picker.hidden = false;
    const field = /** @type {HTMLInputElement | null} */ (find('.moment [name=as_of]'));
    picker.value = (field?.value || (slider?.dataset.at ?? '')).replace(' ', 'T').slice(0, 19);
    picker.addEventListener('change', () => {
      if (picker.value !== '') location.assign(addressAt(picker.value.replace('T', ' ')));
    });
  }
}

// Keys, unless somebody types, or has switched them off.
const KEYS = {
  '?': 'this help',
  'g o': 'overview',
  'g b': 'batches',
  'g w': 'work list',
  '/': 'find a key',
  'j, k': 'next and previous row or version',
  '[, ]': 'previous and next change',
  d: 'what changed',
  e: 'export as CSV',
};
let before = '';
document.addEventListener('keydown', (event) => {
  const { key, target } = event;
  if (event.ctrlKey || event.metaKey || event.altKey || localStorage.getItem('keys') === 'off') {
    if (key === '?' && target === document.body) help();
    return;
  }
  if (
    target instanceof HTMLElement &&
    (target.matches('select, textarea, [contenteditable]') ||
      (target.matches('input') && !target.matches('[type=range], [type=checkbox]')))
  )
    return;
  const link = /** @type {HTMLAnchorElement | null} */ (
    before === 'g'
      ? find(`[data-go="${CSS.escape(key)}"]`)
      : key === 'e'
        ? find('[data-export]')
        : key === 'd'
          ? find('[data-diff]')
          : find(`[data-key="${CSS.escape(key)}"]`)
  );
  before = key;
  if (key === '?') help();
  else if (key === '/') /** @type {HTMLElement | null} */ (find('[data-find]'))?.focus();
  else if (key === 'j' || key === 'k') move(key === 'j' ? 1 : -1);
  else if (link !== null) link.click();
  else return;
  event.preventDefault();
});

/** @param {number} step */
function move(step) {
  const rows = /** @type {HTMLElement[]} */ ([...document.querySelectorAll('[data-row]')]);
  const place = rows.findIndex((row) => row === document.activeElement);
  const next = rows[place === -1 ? (step > 0 ? 0 : rows.length - 1) : place + step];
  next?.focus();
  next?.scrollIntoView({ block: 'nearest' });
}

function help() {
  const shown = find('dialog');
  if (shown !== null) return shown.remove();
  const dialog = document.createElement('dialog');
  const list = document.createElement('dl');
  for (const [key, meaning] of Object.entries(KEYS)) {
    const [term, text] = [document.createElement('dt'), document.createElement('dd')];
    term.append(Object.assign(document.createElement('kbd'), { textContent: key }));
    text.textContent = meaning;
    list.append(term, text);
  }
  const label = document.createElement('label');
  const off = Object.assign(document.createElement('input'), {
    type: 'checkbox',
    checked: localStorage.getItem('keys') === 'off',
  });
  off.addEventListener('change', () => localStorage.setItem('keys', off.checked ? 'off' : 'on'));
  label.append(off, ' no single keys');
  dialog.append(list, label);
  dialog.setAttribute('aria-label', 'Keys');
  dialog.addEventListener('close', () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
}

// The overview asks for itself again while it is seen, and nobody reads what it would move away.
const seconds = Number(document.body.dataset.live ?? 0);
if (seconds > 0)
  setInterval(() => {
    const isRead =
      document.hidden ||
      find('details[open], dialog') !== null ||
      find('#live')?.contains(document.activeElement) === true;
    if (!isRead) void show(location.pathname + location.search, false);
  }, seconds * 1000);

prepare();
