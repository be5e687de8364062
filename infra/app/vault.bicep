// The vault with the customers' connections. Every read of a secret is logged with who read it.
@minLength(3)
@maxLength(24)
param name string
param location string
param tags { *: string }

@description('Recovers the deleted vault of this name.')
param recover bool

@description('Allows access through private endpoints only.')
param privateOnly bool

param workspaceId string

// Versions before 2026-02-01 retire on 27 February 2027 (learn.microsoft.com/azure/key-vault/general/migrate-api-version).
resource vault 'Microsoft.KeyVault/vaults@2026-02-01' = {
  name: name
  location: location
  tags: tags
  properties: {
    tenantId: tenant().tenantId
    sku: { family: 'A', name: 'standard' }
    createMode: recover ? 'recover' : 'default'
    enableRbacAuthorization: true
    enableSoftDelete: true
    softDeleteRetentionInDays: 90
    enablePurgeProtection: true
    publicNetworkAccess: privateOnly ? 'Disabled' : 'Enabled'
    networkAcls: { defaultAction: privateOnly ? 'Deny' : 'Allow', bypass: 'None' }
  }
}

// Who read, wrote and deleted secrets.
#disable-next-line use-recent-api-versions // no release has category groups and dedicated tables
resource logs 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = {
  scope: vault
  name: 'audit'
  properties: {
    workspaceId: workspaceId
    logAnalyticsDestinationType: 'Dedicated' // the table AZKVAuditLogs, not AzureDiagnostics
    logs: [{ categoryGroup: 'audit', enabled: true }]
  }
}

output id string = vault.id
output name string = vault.name
output uri string = vault.properties.vaultUri
