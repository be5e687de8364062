// One Storage account with its containers, queues and tables. Shared keys are off: every request needs an identity.
@minLength(3)
@maxLength(24)
param name string
param location string
param tags { *: string }
param sku string

param containers string[]
param queues string[] = []
param tables string[] = []

@description('Containers whose blobs are deleted after expireDays.')
param expiringContainers string[] = []

@description('0: never.')
param expireDays int = 0

@description('Allows access through private endpoints only.')
param privateOnly bool

param workspaceId string

@description('Logs every request.')
param audit bool

// Access is by roles alone: no shared keys, no public blobs.
resource account 'Microsoft.Storage/storageAccounts@2025-06-01' = {
  name: name
  location: location
  tags: tags
  kind: 'StorageV2'
  sku: { name: sku }
  properties: {
    accessTier: 'Hot'
    allowBlobPublicAccess: false
    allowCrossTenantReplication: false
    allowSharedKeyAccess: false
    defaultToOAuthAuthentication: true
    minimumTlsVersion: 'TLS1_2'
    supportsHttpsTrafficOnly: true
    publicNetworkAccess: privateOnly ? 'Disabled' : 'Enabled'
    networkAcls: { defaultAction: privateOnly ? 'Deny' : 'Allow', bypass: 'None' }
  }
}

// What was deleted by mistake can be restored for a week.
resource blobs 'Microsoft.Storage/storageAccounts/blobServices@2025-06-01' = {
  parent: account
  name: 'default'
  properties: {
    deleteRetentionPolicy: { enabled: true, days: 7 }
    containerDeleteRetentionPolicy: { enabled: true, days: 7 }
  }
}

// The containers, closed to anonymous readers.
resource blobContainers 'Microsoft.Storage/storageAccounts/blobServices/containers@2025-06-01' = [
  for container in containers: {
    parent: blobs
    name: container
    properties: { publicAccess: 'None' }
  }
]

// Queues have no options.
resource queueService 'Microsoft.Storage/storageAccounts/queueServices@2025-06-01' = {
  parent: account
  name: 'default'
}

// The queues. The app could not create them: its roles are on each queue.
resource jobQueues 'Microsoft.Storage/storageAccounts/queueServices/queues@2025-06-01' = [
  for queue in queues: {
    parent: queueService
    name: queue
  }
]

// Tables have no options.
resource tableService 'Microsoft.Storage/storageAccounts/tableServices@2025-06-01' = {
  parent: account
  name: 'default'
}

// The tables.
resource jobTables 'Microsoft.Storage/storageAccounts/tableServices/tables@2025-06-01' = [
  for table in tables: {
    parent: tableService
    name: table
  }
]

// Results have no rule: the app's own sweep deletes them together with their rows (docs/retention.md).
resource lifecycle 'Microsoft.Storage/storageAccounts/managementPolicies@2025-06-01' = if (expireDays > 0 && !empty(expiringContainers)) {
  parent: account
  name: 'default'
  properties: {
    policy: {
      rules: [
        {
          name: 'delete-old-inputs'
          type: 'Lifecycle'
          enabled: true
          definition: {
            filters: { blobTypes: ['blockBlob'], prefixMatch: map(expiringContainers, container => '${container}/') }
            actions: { baseBlob: { delete: { daysAfterModificationGreaterThan: expireDays } } }
          }
        }
      ]
    }
  }
  dependsOn: [blobs]
}

var everything = [
  { category: 'StorageRead', enabled: true }
  { category: 'StorageWrite', enabled: true }
  { category: 'StorageDelete', enabled: true }
]

// Who read, wrote and deleted blobs ...
#disable-next-line use-recent-api-versions // the only release is of 2016
resource blobLogs 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = if (audit) {
  scope: blobs
  name: 'audit'
  properties: { workspaceId: workspaceId, logs: everything }
}

// ... messages ...
#disable-next-line use-recent-api-versions // the only release is of 2016
resource queueLogs 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = if (audit) {
  scope: queueService
  name: 'audit'
  properties: { workspaceId: workspaceId, logs: everything }
}

// ... and rows.
#disable-next-line use-recent-api-versions // the only release is of 2016
resource tableLogs 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = if (audit) {
  scope: tableService
  name: 'audit'
  properties: { workspaceId: workspaceId, logs: everything }
}

output id string = account.id
output name string = account.name
output blobUri string = account.properties.primaryEndpoints.blob
output queueUri string = account.properties.primaryEndpoints.queue
output tableUri string = account.properties.primaryEndpoints.table
