"""
Customer AI Jobs: AI jobs on each customer's own subscription.

Modules stand on floors and import only from the floors below (docs/architecture.md):

5  services
4  pipeline
3  actions, inputs, outputs, runs, holds, bench, sweeps, customer_data
2  connections, ledger, usage, lanes, breakers, adaptations, retention
1  addresses, providers, outbound, outcomes, waits, sockets, transport, identity, key_vault, storage, texts
0  contract, stores, settings, errors, secret, clock
"""
