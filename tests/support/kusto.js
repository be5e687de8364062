// What Microsoft's own Kusto language service says of queries: argv[2] is its package's folder; stdin is JSON,
// {"tables": {name: schema}, "queries": [...]}; stdout is JSON, for each query {"faults": [...], "columns": {name: type}}.
'use strict';
const fs = require('fs');
const path = require('path');
const vm = require('vm');

// Scripts for a browser, which find each other as globals.
for (const file of ['bridge.min.js', 'Kusto.Language.Bridge.min.js']) {
  vm.runInThisContext(fs.readFileSync(path.join(process.argv[2], file), 'utf8'), { filename: file });
}
const { KustoCode, GlobalState, Symbols } = Kusto.Language;
const list = (found) => Array.from({ length: found.Count }, (_, at) => found.getItem(at));

const { tables, queries } = JSON.parse(fs.readFileSync(0, 'utf8'));
const known = Object.entries(tables).map(([name, schema]) => new Symbols.TableSymbol.$ctor7(name, schema, null));
const globals = GlobalState.Default.WithDatabase(new Symbols.DatabaseSymbol.ctor('workspace', known));
const said = queries.map((query) => {
  const code = KustoCode.ParseAndAnalyze(query, globals);
  const columns = code.ResultType?.Columns ? list(code.ResultType.Columns) : [];
  return {
    faults: list(code.GetDiagnostics()).map((fault) => fault.Message),
    columns: Object.fromEntries(columns.map((column) => [column.Name, column.Type.Name])),
  };
});
process.stdout.write(JSON.stringify(said));
