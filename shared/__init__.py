"""
Customer AI Jobs: AI jobs on each customer's own subscription.

Modules stand on floors and import from the floors below; on 0, 1 and 3 also from their own, as long as it goes
one way (docs/architecture.md):

5  services
4  pipeline, http, telemetry_azure
3  actions, inputs, outputs, runs, holds, bench, executions
3  submissions, callbacks, trials, sweeps, customer_data, spans
2  connections, ledger, records, usage, lanes, breakers, adaptations, retention, statements, signing, event_templates
1  addresses, rows, providers, outbound, outcomes, waits, texts
1  sockets, upstream, transport, identity, key_vault, storage
0  contract, routes, stores, settings, errors, secret, clock, telemetry
"""
