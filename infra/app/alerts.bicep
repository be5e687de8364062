// The alerts. Each one links to its heading in the runbook, which says what to look at and what to do.
// Logs may be sampled (host.json), so queries count ItemCount, not rows.
param environmentName string

@description('For names with fewer allowed characters than an environment\'s name.')
param token string
param location string
param tags { *: string }
param workspaceId string
param insightsId string
param vaultId string
param jobAccountId string

@description('Empty: alerts show only in the portal.')
param emails string[]

param runbookUrl string

@description('Requests healthUri from outside.')
param healthTest bool
param healthUri string

var finished = loadTextContent('../queries/finished.kql')
var requeued = loadTextContent('../queries/requeued.kql')
var faults = loadTextContent('../queries/faults.kql')
var opened = loadTextContent('../queries/opened.kql')

// `name` is also the heading in the runbook. Severity 1: at once, 2: today, 3: this week.
var logAlerts = [
  {
    name: 'jobs-failing'
    title: 'More than a fifth of the jobs fail'
    severity: 1
    query: '${finished}\n${loadTextContent('../queries/jobs-failing.kql')}'
    column: 'share'
    aggregation: 'Maximum'
    dimensions: []
    operator: 'GreaterThan'
    threshold: 20
    every: 'PT5M'
    window: 'PT15M'
  }
  {
    name: 'app-faults'
    title: 'The app itself is at fault'
    severity: 1
    query: '${faults}\n${loadTextContent('../queries/app-faults.kql')}'
    column: 'lines'
    aggregation: 'Total'
    dimensions: []
    operator: 'GreaterThan'
    threshold: 0
    every: 'PT5M'
    window: 'PT15M'
  }
  {
    name: 'storage-or-vault-down'
    title: 'Jobs are requeued because Storage or Key Vault does not answer'
    severity: 1
    query: '${requeued}\n${loadTextContent('../queries/storage-or-vault-down.kql')}'
    column: 'jobs'
    aggregation: 'Total'
    dimensions: ['reason']
    operator: 'GreaterThan'
    threshold: 10
    every: 'PT5M'
    window: 'PT15M'
  }
  {
    name: 'queue-age'
    title: 'Jobs wait in the queue for more than five minutes'
    severity: 2
    query: loadTextContent('../queries/queue-age.kql')
    column: 'waited_s'
    aggregation: 'Maximum'
    dimensions: []
    operator: 'GreaterThan'
    threshold: 300
    every: 'PT5M'
    window: 'PT15M'
  }
  {
    name: 'poison'
    title: 'The host gave up messages'
    severity: 2
    query: loadTextContent('../queries/poison.kql')
    column: 'messages'
    aggregation: 'Total'
    dimensions: ['Name']
    operator: 'GreaterThan'
    threshold: 0
    every: 'PT5M'
    window: 'PT15M'
  }
  {
    name: 'endpoints-down'
    title: 'A customer\'s endpoint does not answer'
    severity: 3
    query: '${opened}\n${loadTextContent('../queries/endpoints-down.kql')}'
    column: 'opened'
    aggregation: 'Total'
    dimensions: ['customer', 'connection']
    operator: 'GreaterThan'
    threshold: 3
    every: 'PT15M'
    window: 'PT1H'
  }
  {
    name: 'customers-rate-limited'
    title: 'A customer\'s endpoint limits its rate'
    severity: 3
    query: '${finished}\n${requeued}\n${loadTextContent('../queries/customers-rate-limited.kql')}'
    column: 'jobs'
    aggregation: 'Total'
    dimensions: ['customer']
    operator: 'GreaterThan'
    threshold: 100
    every: 'PT15M'
    window: 'PT1H'
  }
  {
    name: 'connections-refused'
    title: 'A customer\'s connection can\'t be used'
    severity: 3
    query: '${finished}\n${loadTextContent('../queries/connections-refused.kql')}'
    column: 'jobs'
    aggregation: 'Total'
    dimensions: ['customer', 'code']
    operator: 'GreaterThan'
    threshold: 0
    every: 'PT15M'
    window: 'PT15M'
  }
  {
    name: 'budgets-exhausted'
    title: 'A customer\'s budget has too little left'
    severity: 3
    query: loadTextContent('../queries/budgets-exhausted.kql')
    column: 'lines'
    aggregation: 'Total'
    dimensions: ['customer', 'budget']
    operator: 'GreaterThan'
    threshold: 0
    every: 'PT15M'
    window: 'PT1H'
  }
  {
    name: 'callbacks-failing'
    title: 'A customer\'s callbacks were given up'
    severity: 3
    query: loadTextContent('../queries/callbacks-failing.kql')
    column: 'callbacks'
    aggregation: 'Total'
    dimensions: ['customer']
    operator: 'GreaterThan'
    threshold: 0
    every: 'PT15M'
    window: 'PT1H'
  }
  {
    name: 'batches-late'
    title: 'A batch at a customer\'s provider will hardly end in time, or is there twice'
    severity: 3
    query: loadTextContent('../queries/batches-late.kql')
    column: 'batches'
    aggregation: 'Maximum'
    dimensions: ['customer']
    operator: 'GreaterThan'
    threshold: 0
    every: 'PT15M'
    window: 'PT15M'
  }
  {
    name: 'exports-undecided'
    title: 'A billing system refused usage, or may not have it'
    severity: 3
    query: loadTextContent('../queries/exports-undecided.kql')
    column: 'events'
    aggregation: 'Total'
    dimensions: ['export', 'event']
    operator: 'GreaterThan'
    threshold: 0
    every: 'PT15M'
    window: 'PT1H'
  }
  {
    name: 'exports-late'
    title: 'Usage has not reached a billing system for an hour'
    severity: 3
    query: loadTextContent('../queries/exports-late.kql')
    column: 'lag_s'
    aggregation: 'Maximum'
    dimensions: ['export']
    operator: 'GreaterThan'
    threshold: 3600
    every: 'PT15M'
    window: 'PT15M'
  }
  {
    name: 'sweep-missing'
    title: 'No retention sweep has succeeded for a day'
    severity: 3
    query: loadTextContent('../queries/sweep-missing.kql')
    column: ''
    aggregation: 'Count'
    dimensions: []
    operator: 'LessThan'
    threshold: 1
    every: 'PT1H'
    window: 'P1D'
  }
  {
    name: 'statements-failing'
    title: 'A customer\'s month was not closed'
    severity: 2
    query: '${finished}\n${loadTextContent('../queries/statements-failing.kql')}'
    column: 'jobs'
    aggregation: 'Total'
    dimensions: ['customer']
    operator: 'GreaterThan'
    threshold: 0
    every: 'PT15M'
    window: 'PT1H'
  }
  {
    name: 'closing-missing'
    title: 'Nobody looks whether a month has to be closed'
    severity: 3
    query: loadTextContent('../queries/closing-missing.kql')
    column: ''
    aggregation: 'Count'
    dimensions: []
    operator: 'LessThan'
    threshold: 1
    every: 'PT1H'
    window: 'PT6H'
  }
  {
    name: 'wake-ups-missing'
    title: 'Jobs that wait are not woken'
    severity: 2
    query: loadTextContent('../queries/wake-ups-missing.kql')
    column: ''
    aggregation: 'Count'
    dimensions: []
    operator: 'LessThan'
    threshold: 1
    every: 'PT15M'
    window: 'PT1H'
  }
]

// Azure's own metrics.
var metricAlerts = [
  {
    name: 'vault-throttled'
    title: 'Key Vault throttles requests'
    severity: 2
    scope: vaultId
    namespace: 'Microsoft.KeyVault/vaults'
    metric: 'ServiceApiResult'
    aggregation: 'Count'
    dimensions: [{ name: 'StatusCode', operator: 'Include', values: ['429'] }]
    threshold: 0
    every: 'PT5M'
    window: 'PT15M'
  }
  {
    name: 'storage-throttled'
    title: 'Storage throttles requests'
    severity: 2
    scope: jobAccountId
    namespace: 'Microsoft.Storage/storageAccounts'
    metric: 'Transactions'
    aggregation: 'Total'
    dimensions: [
      {
        name: 'ResponseType'
        operator: 'Include'
        values: ['ServerBusyError', 'ClientThrottlingError', 'ClientAccountRequestThrottlingError']
      }
    ]
    threshold: 10
    every: 'PT5M'
    window: 'PT15M'
  }
  {
    name: 'messages-piling-up'
    title: 'The queues hold more than 50,000 messages'
    severity: 2
    scope: '${jobAccountId}/queueServices/default'
    namespace: 'Microsoft.Storage/storageAccounts/queueServices'
    metric: 'QueueMessageCount'
    aggregation: 'Average'
    dimensions: []
    threshold: 50000
    every: 'PT1H'
    window: 'PT1H'
  }
]

// Who gets the alerts.
resource people 'Microsoft.Insights/actionGroups@2023-01-01' = {
  name: 'ag-customer-ai-jobs-${environmentName}'
  location: 'global'
  tags: tags
  properties: {
    groupShortName: 'aijobs'
    enabled: true
    emailReceivers: [for address in emails: { name: address, emailAddress: address, useCommonAlertSchema: true }]
  }
}

// An alert for each query.
resource logRules 'Microsoft.Insights/scheduledQueryRules@2026-03-01' = [
  for alert in logAlerts: {
    name: '${alert.name}-${environmentName}'
    location: location
    tags: tags
    kind: 'LogAlert'
    properties: {
      displayName: '${environmentName}: ${alert.title}'
      description: 'Runbook: ${runbookUrl}#${alert.name}'
      severity: alert.severity
      enabled: true
      scopes: [workspaceId]
      evaluationFrequency: alert.every
      windowSize: alert.window
      criteria: {
        allOf: [
          {
            query: alert.query
            timeAggregation: alert.aggregation
            metricMeasureColumn: empty(alert.column) ? null : alert.column
            dimensions: map(alert.dimensions, column => { name: column, operator: 'Include', values: ['*'] })
            operator: alert.operator
            threshold: alert.threshold
            failingPeriods: { numberOfEvaluationPeriods: 1, minFailingPeriodsToAlert: 1 }
          }
        ]
      }
      autoMitigate: true
      skipQueryValidation: true // the tables do not exist before the first rows
      actions: { actionGroups: [people.id], customProperties: { runbook: '${runbookUrl}#${alert.name}' } }
    }
  }
]

// An alert for each metric.
resource metricRules 'Microsoft.Insights/metricAlerts@2026-01-01' = [
  for alert in metricAlerts: {
    name: '${alert.name}-${environmentName}'
    location: 'global'
    tags: tags
    properties: {
      description: '${alert.title}. Runbook: ${runbookUrl}#${alert.name}'
      severity: alert.severity
      enabled: true
      scopes: [alert.scope]
      evaluationFrequency: alert.every
      windowSize: alert.window
      criteria: {
        'odata.type': 'Microsoft.Azure.Monitor.SingleResourceMultipleMetricCriteria'
        allOf: [
          {
            criterionType: 'StaticThresholdCriterion'
            name: alert.name
            metricNamespace: alert.namespace
            metricName: alert.metric
            timeAggregation: alert.aggregation
            dimensions: alert.dimensions
            operator: 'GreaterThan'
            threshold: alert.threshold
          }
        ]
      }
      autoMitigate: true
      actions: [{ actionGroupId: people.id }]
    }
  }
]

// Everything above needs an app that runs. This test checks from outside whether it does: from three locations every
// 15 minutes. If only one location fails, the fault is the location's.
resource health 'Microsoft.Insights/webtests@2022-06-15' = if (healthTest) {
  name: 'health-${token}'
  location: location
  tags: union(tags, { 'hidden-link:${insightsId}': 'Resource' })
  kind: 'standard'
  properties: {
    Name: 'health-${token}'
    SyntheticMonitorId: 'health-${token}'
    Kind: 'standard'
    Enabled: true
    Frequency: 900
    Timeout: 120 // includes a cold start
    RetryEnabled: true
    Locations: [{ Id: 'emea-nl-ams-azr' }, { Id: 'us-va-ash-azr' }, { Id: 'apac-sg-sin-azr' }]
    Request: { RequestUrl: healthUri, HttpVerb: 'GET', ParseDependentRequests: false }
    ValidationRules: { ExpectedHttpStatusCode: 200, SSLCheck: true }
  }
}

// Fires if two of the three locations get no answer.
resource appDown 'Microsoft.Insights/metricAlerts@2026-01-01' = if (healthTest) {
  name: 'app-down-${environmentName}'
  location: 'global'
  tags: tags
  properties: {
    description: 'The app does not answer. Runbook: ${runbookUrl}#app-down'
    severity: 1
    enabled: true
    scopes: [health.id, insightsId]
    evaluationFrequency: 'PT5M'
    windowSize: 'PT15M'
    criteria: {
      'odata.type': 'Microsoft.Azure.Monitor.WebtestLocationAvailabilityCriteria'
      webTestId: health.id
      componentId: insightsId
      failedLocationCount: 2
    }
    autoMitigate: true
    actions: [{ actionGroupId: people.id }]
  }
}

// Key Vault itself reports secrets that expire within 30 days, and those that have expired, so the app doesn't have to
// read them (learn.microsoft.com/azure/event-grid/handler-azure-monitor-alerts).
resource vaultEvents 'Microsoft.EventGrid/systemTopics@2025-02-15' = {
  name: 'evgt-vault-${token}'
  location: location
  tags: tags
  properties: { source: vaultId, topicType: 'Microsoft.KeyVault.vaults' }
}

// Makes each of these events an alert.
resource secretsExpiring 'Microsoft.EventGrid/systemTopics/eventSubscriptions@2025-02-15' = {
  parent: vaultEvents
  name: 'secrets-expiring'
  properties: {
    eventDeliverySchema: 'CloudEventSchemaV1_0'
    filter: { includedEventTypes: ['Microsoft.KeyVault.SecretNearExpiry', 'Microsoft.KeyVault.SecretExpired'] }
    destination: {
      endpointType: 'MonitorAlert'
      properties: {
        severity: 'Sev2'
        description: 'A secret expires within 30 days, or has expired. Runbook: ${runbookUrl}#secrets-expiring'
        actionGroups: [people.id]
      }
    }
  }
}
