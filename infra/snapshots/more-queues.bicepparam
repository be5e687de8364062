using '../main.bicep'
extends '../environments/test.bicepparam'

// Queues of customers and of exports.
param allowedResultQueues = 'shared, contoso=contoso-results'
param usageExports = '[{"name": "queue", "kind": "cloudevents", "queue": "usage-events"}]'
