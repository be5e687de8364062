// The Functions app on Flex Consumption. Each function with a queue trigger scales on its own; the HTTP functions
// scale together. Azure plans an instance for as many messages as host.json says: `batchSize` + `newBatchThreshold`.
param name string
param planName string
param location string
param tags { *: string }

param identityId string

@description('Empty: no virtual network.')
param subnetId string

@description('The URL of the container that holds the package of the code.')
param packageUri string

@description('Spreads the instances over the zones of the region.')
param zoneRedundant bool

@description('How an update of code or settings replaces the instances.')
param siteUpdateStrategy string

param maximumInstanceCount int
param instanceMemoryMB int
param alwaysReadyJobs int
param alwaysReadyHttp int
param httpConcurrency int

@description('The client id of the app registration whose tokens HTTP requires. Empty: function keys.')
param httpAuthClientId string

@description('All app settings: a setting made by hand is lost at the next deployment.')
param settings { *: string }

// What instances the app may have. FC1 is Flex Consumption.
resource plan 'Microsoft.Web/serverfarms@2025-03-01' = {
  name: planName
  location: location
  tags: tags
  kind: 'functionapp'
  sku: { name: 'FC1', tier: 'FlexConsumption' }
  properties: { reserved: true, zoneRedundant: zoneRedundant }
}

// The app. Its settings are a part of it and no resource of their own, so that a deployment is one update of it, not two.
resource app 'Microsoft.Web/sites@2025-03-01' = {
  name: name
  location: location
  tags: union(tags, { 'azd-service-name': 'app' })
  kind: 'functionapp,linux'
  identity: {
    type: 'UserAssigned'
    userAssignedIdentities: { '${identityId}': {} }
  }
  properties: {
    serverFarmId: plan.id
    httpsOnly: true
    clientAffinityEnabled: false
    keyVaultReferenceIdentity: identityId
    virtualNetworkSubnetId: empty(subnetId) ? null : subnetId
    #disable-next-line BCP037 // siteUpdateStrategy: Azure has it since 2024-11-01, the compiler's types do not
    functionAppConfig: {
      deployment: {
        storage: {
          type: 'blobContainer'
          value: packageUri
          authentication: { type: 'UserAssignedIdentity', userAssignedIdentityResourceId: identityId }
        }
      }
      runtime: { name: 'python', version: '3.13' }
      scaleAndConcurrency: {
        maximumInstanceCount: maximumInstanceCount
        instanceMemoryMB: instanceMemoryMB
        alwaysReady: concat(
          alwaysReadyJobs > 0 ? [{ name: 'function:run_job', instanceCount: alwaysReadyJobs }] : [],
          alwaysReadyHttp > 0 ? [{ name: 'http', instanceCount: alwaysReadyHttp }] : []
        )
        triggers: { http: { perInstanceConcurrency: httpConcurrency } }
      }
      // Left out for Azure's default: a region without rolling updates may refuse the property.
      ...(siteUpdateStrategy == 'Recreate' ? {} : { siteUpdateStrategy: { type: siteUpdateStrategy } })
    }
    // Flex Consumption refuses members that it does not know, such as `ftpsState` and `alwaysOn`.
    siteConfig: {
      http20Enabled: true
      minTlsVersion: '1.2'
      scmMinTlsVersion: '1.2'
      remoteDebuggingEnabled: false
      appSettings: [for setting in items(settings): { name: setting.key, value: setting.value }]
    }
  }

  // No sign-in by name for FTP ...
  resource noFtp 'basicPublishingCredentialsPolicies' = {
    name: 'ftp'
    properties: { allow: false }
  }

  // ... nor for publishing.
  resource noBasicAuth 'basicPublishingCredentialsPolicies' = {
    name: 'scm'
    properties: { allow: false }
  }

  // Authentication verifies tokens and lets requests without one through: webhooks and /api/health are anonymous,
  // and for everything else the app itself requires a role (shared/http/auth.py).
  resource auth 'config' = if (!empty(httpAuthClientId)) {
    name: 'authsettingsV2'
    properties: {
      platform: { enabled: true, runtimeVersion: '~1' }
      globalValidation: { requireAuthentication: false, unauthenticatedClientAction: 'AllowAnonymous' }
      httpSettings: { requireHttps: true }
      login: { tokenStore: { enabled: false } }
      identityProviders: {
        azureActiveDirectory: {
          enabled: true
          registration: {
            clientId: httpAuthClientId
            openIdIssuer: '${environment().authentication.loginEndpoint}${tenant().tenantId}/v2.0'
          }
          validation: { allowedAudiences: [httpAuthClientId, 'api://${httpAuthClientId}'] }
        }
      }
    }
  }
}

output name string = app.name
output uri string = 'https://${app.properties.defaultHostName}'
