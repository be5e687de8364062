"""
Customer AI Jobs: AI jobs on each customer's own subscription.

Modules stand on floors and import only from the floors below (docs/architecture.md):

5  services
4  pipeline, http, telemetry_azure
3  actions, inputs, outputs, runs, holds, bench, executions
3  submissions, callbacks, trials, sweeps, customer_data, spans
2  connections, ledger, records, usage, lanes, breakers, adaptations, retention, statements, signing, event_templates
1  addresses, rows, providers, outbound, outcomes, waits, sockets, transport, identity, key_vault, storage, texts
0  contract, routes, stores, settings, errors, secret, clock, telemetry
"""
