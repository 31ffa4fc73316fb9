/** How many times as much is generated as in the usual run: `SCALE=10 npx mocha --grep generated`. */
export const SCALE = Number(process.env.SCALE ?? 1);
