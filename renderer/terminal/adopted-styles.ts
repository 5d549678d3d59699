/**
 * A document for xterm.js whose style elements put their rules into adopted style sheets, and whose elements set their style
 * as an object: the page's content security policy allows those, and neither text in style elements nor style attributes.
 */
export function withAdoptedStyles(page: Document): Document {
  const create = (name: string, options?: ElementCreationOptions) =>
    name === 'style' ? adopted(page) : withStyleObject(page.createElement(name, options));
  return new Proxy(page, {
    get(target, name) {
      if (name === 'createElement') return create;
      const value: unknown = Reflect.get(target, name, target);
      return typeof value === 'function' ? value.bind(target) : value;
    },
  });
}

/** Stands where the style element would; that one is refused even while it is empty. */
function adopted(page: Document): HTMLElement {
  const element = page.createElement('template');
  const sheet = new CSSStyleSheet();
  Object.defineProperty(element, 'textContent', {
    set: (rules: string) => sheet.replaceSync(rules),
    get: () => '',
  });
  page.adoptedStyleSheets.push(sheet);
  element.remove = () => {
    page.adoptedStyleSheets = page.adoptedStyleSheets.filter((each) => each !== sheet);
    Element.prototype.remove.call(element);
  };
  return element;
}

function withStyleObject<E extends HTMLElement>(element: E): E {
  element.setAttribute = (name, value) => {
    if (name === 'style') element.style.cssText = value;
    else Element.prototype.setAttribute.call(element, name, value);
  };
  return element;
}

/**
 * Runs what makes style elements by the page's own document: xterm.js does so once, as it is opened, whatever document it is
 * given.
 */
export function whileAdopting(page: Document, run: () => void): void {
  const own = page.createElement;
  page.createElement = ((name: string, options?: ElementCreationOptions) =>
    name === 'style' ? adopted(page) : own.call(page, name, options)) as typeof own;
  try {
    run();
  } finally {
    Reflect.deleteProperty(page, 'createElement');
  }
}
