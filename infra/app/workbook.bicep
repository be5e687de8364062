// One workbook for an incident: the most urgent charts first, the merely interesting ones last.
param environmentName string
param location string
param tags { *: string }
param workspaceId string
param jobAccountId string
param vaultId string

var finished = loadTextContent('../queries/finished.kql')
var requeued = loadTextContent('../queries/requeued.kql')
var faults = loadTextContent('../queries/faults.kql')
var opened = loadTextContent('../queries/opened.kql')

var charts = [
  {
    title: 'Jobs by outcome'
    visual: 'areachart'
    query: '${finished}\nfinished | summarize jobs = sum(ItemCount) by bin(TimeGenerated, 5m), status'
  }
  {
    title: 'Why jobs fail'
    visual: 'table'
    query: '${finished}\nfinished | where status == "failed" | summarize jobs = sum(ItemCount), customers = dcount(customer) by code | order by jobs desc'
  }
  {
    title: 'How long jobs wait in the queue, in seconds (fastest tenth, half, and slowest twentieth)'
    visual: 'linechart'
    query: 'AppTraces | where OperationName == "run_job" and Message startswith "Trigger Details: MessageId: " | parse Message with "Trigger Details: MessageId: " message_id ", DequeueCount: " dequeue_count:int ", InsertionTime: " inserted:datetime | extend waited_s = (TimeGenerated - inserted) / 1s | summarize p10 = percentilew(waited_s, ItemCount, 10), p50 = percentilew(waited_s, ItemCount, 50), p95 = percentilew(waited_s, ItemCount, 95) by bin(TimeGenerated, 5m)'
  }
  {
    title: 'Requeued jobs, and why'
    visual: 'areachart'
    query: '${requeued}\nrequeued | summarize jobs = sum(ItemCount) by bin(TimeGenerated, 5m), reason'
  }
  {
    title: 'Customers that use their share of a worker (requeued: jobs, since the worker loaded the connection)'
    visual: 'table'
    query: loadTextContent('../queries/throttled.kql')
  }
  {
    title: 'Breakers that opened'
    visual: 'table'
    query: '${opened}\nopened | summarize opened = sum(ItemCount), codes = strcat_array(make_set(code), ", ") by customer, connection | order by opened desc'
  }
  {
    title: 'Connections that can\'t be used'
    visual: 'table'
    query: '${finished}\n${loadTextContent('../queries/connections-refused.kql')}'
  }
  {
    title: 'Customers whose endpoints limit their rate'
    visual: 'table'
    query: '${finished}\n${requeued}\n${loadTextContent('../queries/customers-rate-limited.kql')}'
  }
  {
    title: 'Faults of the app'
    visual: 'table'
    query: '${faults}\nfaults | project TimeGenerated, Message, AppRoleInstance | order by TimeGenerated desc | take 50'
  }
  {
    title: 'Messages that the host gave up'
    visual: 'table'
    query: loadTextContent('../queries/poison.kql')
  }
  {
    title: 'Attempts, in milliseconds, by action'
    visual: 'linechart'
    query: '${finished}\nfinished | summarize p50 = percentilew(run_ms, ItemCount, 50), p95 = percentilew(run_ms, ItemCount, 95) by bin(TimeGenerated, 5m), action'
  }
  {
    title: 'Tokens by customer (of the logged jobs; bills are made from the usage records)'
    visual: 'barchart'
    query: '${finished}\nfinished | summarize input = sum(input_tokens * ItemCount), output = sum(output_tokens * ItemCount) by customer | top 20 by input'
  }
  {
    title: 'Workers'
    visual: 'linechart'
    query: 'AppRequests | summarize workers = dcount(AppRoleInstance) by bin(TimeGenerated, 5m), Name'
  }
]

var metrics = [
  {
    title: 'Messages in all queues of the account (counted once an hour)'
    id: '${jobAccountId}/queueServices/default'
    type: 'microsoft.storage/storageaccounts/queueservices'
    namespace: 'microsoft.storage/storageaccounts/queueservices'
    metric: 'microsoft.storage/storageaccounts/queueservices-Capacity-QueueMessageCount'
    aggregation: 4
    splitBy: null
  }
  {
    title: 'Requests to Storage by response'
    id: jobAccountId
    type: 'microsoft.storage/storageaccounts'
    namespace: 'microsoft.storage/storageaccounts'
    metric: 'microsoft.storage/storageaccounts-Transaction-Transactions'
    aggregation: 1
    splitBy: 'ResponseType'
  }
  {
    title: 'Requests to Key Vault by response'
    id: vaultId
    type: 'microsoft.keyvault/vaults'
    namespace: 'microsoft.keyvault/vaults'
    metric: 'microsoft.keyvault/vaults--ServiceApiResult'
    aggregation: 7
    splitBy: 'StatusCode'
  }
]

var chartItems = [
  for (chart, i) in charts: {
    type: 3
    name: 'chart-${i}'
    content: {
      version: 'KqlItem/1.0'
      title: chart.title
      query: chart.query
      queryType: 0
      resourceType: 'microsoft.operationalinsights/workspaces'
      crossComponentResources: [workspaceId]
      timeContextFromParameter: 'TimeRange'
      size: 0
      visualization: chart.visual
      noDataMessage: 'Nothing in this time range.'
    }
  }
]

var metricItems = [
  for (item, i) in metrics: {
    type: 10
    name: 'metric-${i}'
    content: {
      version: 'MetricsItem/2.0'
      title: item.title
      chartId: 'metric-${i}'
      size: 0
      chartType: 2
      resourceType: item.type
      resourceIds: [item.id]
      metricScope: 0
      timeContextFromParameter: 'TimeRange'
      metrics: [
        { namespace: item.namespace, metric: item.metric, aggregation: item.aggregation, splitBy: item.splitBy }
      ]
    }
  }
]

var timeRange = {
  type: 9
  name: 'time'
  content: {
    version: 'KqlParameterItem/1.0'
    parameters: [
      {
        name: 'TimeRange'
        label: 'Time'
        type: 4
        isRequired: true
        value: { durationMs: 14400000 }
        typeSettings: {
          selectableValues: [
            { durationMs: 3600000 }
            { durationMs: 14400000 }
            { durationMs: 86400000 }
            { durationMs: 604800000 }
            { durationMs: 2592000000 }
          ]
          allowCustom: true
        }
      }
    ]
    style: 'pills'
  }
}

// A page in the portal.
resource workbook 'Microsoft.Insights/workbooks@2023-06-01' = {
  name: guid(resourceGroup().id, 'customer-ai-jobs')
  location: location
  tags: tags
  kind: 'shared'
  properties: {
    displayName: 'Customer AI Jobs: ${environmentName}'
    category: 'workbook'
    sourceId: workspaceId
    version: 'Notebook/1.0'
    serializedData: string({
      version: 'Notebook/1.0'
      items: concat([timeRange], chartItems, metricItems)
      fallbackResourceIds: [workspaceId]
    })
  }
}

output id string = workbook.id
