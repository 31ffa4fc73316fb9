// The few things that every part of the page does to the document.

export const byId = (id) => document.getElementById(id);

/** Makes an element: its class, and what is in it. */
export function element(tag, className = '', ...children) {
  const made = document.createElement(tag);
  made.className = className;
  made.append(...children);
  return made;
}

/** A copy of what is in a template. */
export function copyOf(template) {
  return byId(template).content.firstElementChild.cloneNode(true);
}

/** Sets a text where it is another: what a screen reader stands on is not replaced by the same. */
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

export function setData(node, name, value) {
  if (node.dataset[name] !== value) node.dataset[name] = value;
}

/**
 * Makes the children of `list` be those of `items`, in their order. What is there already stays, with its focus: it is
 * given to `update` with its item.
 */
export function reconcile(list, items, { keyOf, make, update }) {
  const rows = list.rowsByKey ?? new Map();
  list.rowsByKey = rows;
  const keys = new Set(items.map(keyOf));
  for (const [key, row] of rows) {
    if (keys.has(key)) continue;
    row.remove();
    rows.delete(key);
  }
  let next = list.firstElementChild;
  for (const item of items) {
    const key = keyOf(item);
    let row = rows.get(key);
    if (row === undefined) {
      row = make(item);
      rows.set(key, row);
    }
    update(row, item);
    if (row === next) next = next.nextElementSibling;
    else list.insertBefore(row, next);
  }
}

/** Calls `draw` once for many changes, before the next frame of the screen. */
export function drawn(draw) {
  let due = 0;
  return () => {
    if (due !== 0) return;
    due = requestAnimationFrame(() => {
      due = 0;
      draw();
    });
  };
}
