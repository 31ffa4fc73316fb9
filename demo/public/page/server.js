// What the page asks of the server.

/** An answer that is not what was asked for: its status, its code, and a message for whoever asked. */
export class Refused extends Error {
  constructor(status, code, message) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

/** Posts JSON and returns what is answered; throws a Refused. */
export async function post(path, body = {}) {
  let response;
  let answer;
  try {
    response = await fetch(path, {
      method: 'POST',
      headers: { 'Content-Type': 'application/json' },
      body: JSON.stringify(body),
    });
    answer = await response.json();
  } catch {
    throw new Refused(0, 'NO_ANSWER', 'The server did not answer.');
  }
  if (response.ok) return answer;
  throw new Refused(response.status, answer.error.code, answer.error.message);
}

/** Calls `act`, and tells in `place` what went wrong, or what `act` returned. */
export async function telling(place, act) {
  try {
    place.textContent = (await act()) ?? '';
    place.dataset.status = 'done';
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    place.textContent = `${error.code}: ${error.message}`;
    place.dataset.status = 'refused';
  }
}
