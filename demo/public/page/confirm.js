// A question before what can't be taken back.

import { byId, setText } from './dom.js';

/** Resolves with whether it was confirmed. */
export function confirmed(question, consequence) {
  const dialog = byId('confirm');
  setText(byId('confirm-question'), question);
  setText(byId('confirm-consequence'), consequence);
  dialog.returnValue = '';
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener('close', () => resolve(dialog.returnValue === 'yes'), { once: true });
  });
}
