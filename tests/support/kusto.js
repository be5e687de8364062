// Analyzes queries with Microsoft's own Kusto language service. argv[2] is the folder of its package; stdin is JSON,
// {"tables": {name: schema}, "queries": [...]}; stdout is JSON, for each query {"errors": [...], "columns": {name: type}}.
'use strict';
const fs = require('fs');
const path = require('path');
const vm = require('vm');

// Browser scripts, which refer to each other by globals.
for (const file of ['bridge.min.js', 'Kusto.Language.Bridge.min.js']) {
  vm.runInThisContext(fs.readFileSync(path.join(process.argv[2], file), 'utf8'), { filename: file });
}
const { KustoCode, GlobalState, Symbols } = Kusto.Language;
const list = (items) => Array.from({ length: items.Count }, (_, index) => items.getItem(index));

const { tables, queries } = JSON.parse(fs.readFileSync(0, 'utf8'));
const symbols = Object.entries(tables).map(([name, schema]) => new Symbols.TableSymbol.$ctor7(name, schema, null));
const globals = GlobalState.Default.WithDatabase(new Symbols.DatabaseSymbol.ctor('workspace', symbols));
const analyses = queries.map((query) => {
  const code = KustoCode.ParseAndAnalyze(query, globals);
  const columns = code.ResultType?.Columns ? list(code.ResultType.Columns) : [];
  return {
    errors: list(code.GetDiagnostics()).map((error) => error.Message),
    columns: Object.fromEntries(columns.map((column) => [column.Name, column.Type.Name])),
  };
});
process.stdout.write(JSON.stringify(analyses));
