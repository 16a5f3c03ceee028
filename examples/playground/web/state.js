// The state of a page in the hash of the address: `#page?key=value&…`, values as JSON, defaults left out.

const parse = (text) => {
  try { return JSON.parse(text); } catch { return text; }
};

const text = (value) => (typeof value === 'string' ? value : JSON.stringify(value));

/** The page's name in the address, and the values that differ from its defaults. */
export function read() {
  const [page, query = ''] = location.hash.slice(1).split('?');
  const values = Object.fromEntries([...new URLSearchParams(query)].map(([key, value]) => [key, parse(value)]));
  return { page, values };
}

/** The values of one page. `set` also writes them to the address, without an entry in the history. */
export class State {
  #page;
  #defaults;
  #timer;

  constructor(page, defaults, values) {
    this.#page = page;
    this.#defaults = defaults;
    this.values = structuredClone(defaults);
    for (const [key, value] of Object.entries(values)) {
      // A link from elsewhere may hold anything: unknown keys and other types are left out.
      if (key in defaults && typeof value === typeof defaults[key] && Array.isArray(value) === Array.isArray(defaults[key])) {
        this.values[key] = value;
      }
    }
  }

  get(key) { return this.values[key]; }

  set(key, value) {
    this.values[key] = value;
    clearTimeout(this.#timer);
    // Browsers limit how often the address may change.
    this.#timer = setTimeout(() => this.write(), 250);
  }

  /** The address of these values. */
  hash() {
    const query = new URLSearchParams();
    for (const [key, value] of Object.entries(this.values)) {
      if (text(value) !== text(this.#defaults[key])) query.set(key, text(value));
    }
    return `#${this.#page}${query.size ? `?${query}` : ''}`;
  }

  write() {
    clearTimeout(this.#timer);
    history.replaceState(null, '', this.hash());
  }

  stop() { clearTimeout(this.#timer); }
}
