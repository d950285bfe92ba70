// Parses Bicep files with a grammar of the language, for machines without its compiler: node .ci/bicep.mjs FILES. It finds
// syntax errors, but does not check types. The packages come from NODE_MODULES, see .ci/run.
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';

const require = createRequire(process.env.NODE_MODULES + '/');
const { Parser, Language } = require('web-tree-sitter');
await Parser.init();
const parser = new Parser();
parser.setLanguage(await Language.load(require.resolve('tree-sitter-bicep/tree-sitter-bicep.wasm')));

let wrong = 0;
const report = (file, node) => {
  if (node.isError || node.isMissing) {
    const what = node.isMissing ? `${node.type} is missing` : `not understood: ${node.text.split('\n')[0].slice(0, 80)}`;
    console.log(`${file}:${node.startPosition.row + 1}:${node.startPosition.column + 1}: ${what}`);
    wrong++;
    return;
  }
  for (const child of node.children) if (child.hasError || child.isMissing) report(file, child);
};
for (const file of process.argv.slice(2)) report(file, parser.parse(readFileSync(file, 'utf8')).rootNode);
process.exit(wrong > 0 ? 1 : 0);
