// The rooms of lib/ and their imports → docs/rooms.md, as a Mermaid graph by dependency-cruiser.

import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { cruise } from 'dependency-cruiser';
import extractDepcruiseOptions from 'dependency-cruiser/config-utl/extract-depcruise-options';

process.chdir(join(import.meta.dirname, '..'));

const { output } = await cruise(['lib'], {
  ...(await extractDepcruiseOptions('./.dependency-cruiser.mjs')),
  includeOnly: { path: '^lib/' },
  collapse: '^lib/[^/]+',
  outputType: 'mermaid',
  reporterOptions: { mermaid: { minify: false } },
});

writeFileSync(
  'docs/rooms.md',
  `# The rooms of lib/

\`npm run picture\` writes this page. An arrow leads from a room to a room that it imports.
\`.dependency-cruiser.mjs\` has the rules; the README of each folder has its reason and its natural way.

\`\`\`mermaid
${output.trim()}
\`\`\`
`,
);
