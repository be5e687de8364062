// All role assignments, and nothing else. docs/security.md has them as a table, which a test compares with this file.
// Removing an assignment here does not remove it in Azure: delete it there.
@description('The name of the app\'s identity. Names of assignments are made from it, since it is known before the deployment.')
param appIdentityName string
param appPrincipalId string

@description('The name of KEDA\'s identity. Empty: none.')
param kedaIdentityName string
param kedaPrincipalId string

@description('Empty: nobody.')
param operatorObjectId string
param operatorType string

param hostAccountName string
param jobAccountName string
@description('The queues that the app reads and writes.')
param queues string[]

@description('The queues whose messages KEDA counts.')
param countedQueues string[]

@description('Containers that the app writes to.')
param writtenContainers string[]

@description('Containers that the app only reads.')
param readContainers string[]

param vaultName string
param insightsName string

@description('Lets the app write, list and delete secrets, too.')
param onboardOverHttp bool

// learn.microsoft.com/azure/role-based-access-control/built-in-roles
var roles = mapValues(
  {
    StorageBlobDataOwner: 'b7e6dc6d-f1e8-4753-8033-0f276bb0955b'
    StorageBlobDataContributor: 'ba92f5b4-2d11-453d-a403-e96b0029c9fe'
    StorageBlobDataReader: '2a2b9908-6ea1-4ae2-8e65-a410df84e7d1'
    StorageQueueDataReader: '19e7f393-937e-4f77-808e-96b94797925e'
    StorageQueueDataContributor: '974c5e8b-45b9-4653-ba55-5f855dd0fb88'
    StorageTableDataContributor: '0a9a7e1f-b9d0-4cc4-a60d-0319b160aaa3'
    KeyVaultSecretsUser: '4633458b-17de-408a-b874-0445c86b69e6'
    KeyVaultSecretsOfficer: 'b86a8fe4-44ce-4948-aee5-eccb2c155cd7'
    MonitoringMetricsPublisher: '3913510d-42f4-4e42-8a64-420c390055eb'
  },
  id => subscriptionResourceId('Microsoft.Authorization/roleDefinitions', id)
)

resource hostAccount 'Microsoft.Storage/storageAccounts@2025-06-01' existing = {
  name: hostAccountName
}

resource jobAccount 'Microsoft.Storage/storageAccounts@2025-06-01' existing = {
  name: jobAccountName
}

resource blobService 'Microsoft.Storage/storageAccounts/blobServices@2025-06-01' existing = {
  parent: jobAccount
  name: 'default'
}

resource existingWrittenContainers 'Microsoft.Storage/storageAccounts/blobServices/containers@2025-06-01' existing = [
  for container in writtenContainers: {
    parent: blobService
    name: container
  }
]

resource existingReadContainers 'Microsoft.Storage/storageAccounts/blobServices/containers@2025-06-01' existing = [
  for container in readContainers: {
    parent: blobService
    name: container
  }
]

resource queueService 'Microsoft.Storage/storageAccounts/queueServices@2025-06-01' existing = {
  parent: jobAccount
  name: 'default'
}

resource existingQueues 'Microsoft.Storage/storageAccounts/queueServices/queues@2025-06-01' existing = [
  for queue in queues: {
    parent: queueService
    name: queue
  }
]

resource vault 'Microsoft.KeyVault/vaults@2026-02-01' existing = {
  name: vaultName
}

resource insights 'Microsoft.Insights/components@2020-02-02' existing = {
  name: insightsName
}

// The app, on the host's account.

// The package of the code, locks and function keys: the host requires this role.
resource hostBlobs 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  scope: hostAccount
  name: guid(hostAccount.id, appIdentityName, roles.StorageBlobDataOwner)
  properties: {
    principalId: appPrincipalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: roles.StorageBlobDataOwner
  }
}

// The host's diagnostic events.
resource hostTables 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  scope: hostAccount
  name: guid(hostAccount.id, appIdentityName, roles.StorageTableDataContributor)
  properties: {
    principalId: appPrincipalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: roles.StorageTableDataContributor
  }
}

// The app, on the jobs' account: one assignment per queue and container.

// Jobs, results and callbacks are received and sent.
resource jobQueues 'Microsoft.Authorization/roleAssignments@2022-04-01' = [
  for (queue, i) in queues: {
    scope: existingQueues[i]
    name: guid(jobAccount.id, queue, appIdentityName, roles.StorageQueueDataContributor)
    properties: {
      principalId: appPrincipalId
      principalType: 'ServicePrincipal'
      roleDefinitionId: roles.StorageQueueDataContributor
    }
  }
]

// Results, steps and inputs over HTTP are written; the sweep deletes them.
resource jobResults 'Microsoft.Authorization/roleAssignments@2022-04-01' = [
  for (container, i) in writtenContainers: {
    scope: existingWrittenContainers[i]
    name: guid(jobAccount.id, container, appIdentityName, roles.StorageBlobDataContributor)
    properties: {
      principalId: appPrincipalId
      principalType: 'ServicePrincipal'
      roleDefinitionId: roles.StorageBlobDataContributor
    }
  }
]

// Inputs, templates and statements are read.
resource jobInputs 'Microsoft.Authorization/roleAssignments@2022-04-01' = [
  for (container, i) in readContainers: {
    scope: existingReadContainers[i]
    name: guid(jobAccount.id, container, appIdentityName, roles.StorageBlobDataReader)
    properties: {
      principalId: appPrincipalId
      principalType: 'ServicePrincipal'
      roleDefinitionId: roles.StorageBlobDataReader
    }
  }
]

// On the whole account: a transaction is a request to the account ($batch), not to the table. There is one table.
resource jobTables 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  scope: jobAccount
  name: guid(jobAccount.id, appIdentityName, roles.StorageTableDataContributor)
  properties: {
    principalId: appPrincipalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: roles.StorageTableDataContributor
  }
}

// The app, on the vault and Application Insights.

// Connections, signing secrets and the keys of exports are read.
resource vaultReader 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  scope: vault
  name: guid(vault.id, appIdentityName, roles.KeyVaultSecretsUser)
  properties: {
    principalId: appPrincipalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: roles.KeyVaultSecretsUser
  }
}

// Connections are written, if customers are onboarded over HTTP.
resource vaultOfficer 'Microsoft.Authorization/roleAssignments@2022-04-01' = if (onboardOverHttp) {
  scope: vault
  name: guid(vault.id, appIdentityName, roles.KeyVaultSecretsOfficer)
  properties: {
    principalId: appPrincipalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: roles.KeyVaultSecretsOfficer
  }
}

// Telemetry is sent: Application Insights takes no key.
resource telemetry 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  scope: insights
  name: guid(insights.id, appIdentityName, roles.MonitoringMetricsPublisher)
  properties: {
    principalId: appPrincipalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: roles.MonitoringMetricsPublisher
  }
}

// KEDA: it looks into the queues that jobs, callbacks and batches wait in.

var kedaQueues = empty(kedaIdentityName) ? [] : countedQueues

resource existingCountedQueues 'Microsoft.Storage/storageAccounts/queueServices/queues@2025-06-01' existing = [
  for queue in kedaQueues: {
    parent: queueService
    name: queue
  }
]

// The number of messages, and the first of them, are read.
resource kedaCounts 'Microsoft.Authorization/roleAssignments@2022-04-01' = [
  for (queue, i) in kedaQueues: {
    scope: existingCountedQueues[i]
    name: guid(jobAccount.id, queue, kedaIdentityName, roles.StorageQueueDataReader)
    properties: {
      principalId: kedaPrincipalId
      principalType: 'ServicePrincipal'
      roleDefinitionId: roles.StorageQueueDataReader
    }
  }
]

// The operator: customers' connections and the data in the jobs' account. Nothing on the host's account.

var operatorRoles = empty(operatorObjectId)
  ? []
  : [roles.StorageBlobDataContributor, roles.StorageQueueDataContributor, roles.StorageTableDataContributor]

// Inputs and results, queues, and rows.
resource operatorStorage 'Microsoft.Authorization/roleAssignments@2022-04-01' = [
  for role in operatorRoles: {
    scope: jobAccount
    name: guid(jobAccount.id, operatorObjectId, role, 'operator')
    properties: {
      principalId: operatorObjectId
      principalType: operatorType
      roleDefinitionId: role
    }
  }
]

// Customers are onboarded, and their keys changed.
resource operatorVault 'Microsoft.Authorization/roleAssignments@2022-04-01' = if (!empty(operatorObjectId)) {
  scope: vault
  name: guid(vault.id, operatorObjectId, roles.KeyVaultSecretsOfficer, 'operator')
  properties: {
    principalId: operatorObjectId
    principalType: operatorType
    roleDefinitionId: roles.KeyVaultSecretsOfficer
  }
}
