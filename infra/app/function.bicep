// The Functions app on Flex Consumption. Each function with a queue trigger scales on its own; the HTTP functions
// scale together. Azure plans an instance for as many messages as host.json says: `batchSize` + `newBatchThreshold`.
param name string
param planName string
param location string
param tags object

param identityId string

@description('Empty: no virtual network.')
param subnetId string

@description('The URL of the container that holds the package of the code.')
param packageUri string

param maximumInstanceCount int
param instanceMemoryMB int
param alwaysReadyJobs int
param alwaysReadyHttp int
param httpConcurrency int

@description('The client id of the app registration whose tokens HTTP requires. Empty: function keys.')
param httpAuthClientId string

@description('All app settings: a setting made by hand is lost at the next deployment.')
param settings object

resource plan 'Microsoft.Web/serverfarms@2025-03-01' = {
  name: planName
  location: location
  tags: tags
  kind: 'functionapp'
  sku: { name: 'FC1', tier: 'FlexConsumption' }
  properties: { reserved: true }
}

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
    functionAppConfig: {
      deployment: {
        storage: {
          type: 'blobContainer'
          value: packageUri
          authentication: { type: 'UserAssignedIdentity', userAssignedIdentityResourceId: identityId }
        }
      }
      runtime: { name: 'python', version: '3.12' }
      scaleAndConcurrency: {
        maximumInstanceCount: maximumInstanceCount
        instanceMemoryMB: instanceMemoryMB
        alwaysReady: concat(
          alwaysReadyJobs > 0 ? [{ name: 'function:run_job', instanceCount: alwaysReadyJobs }] : [],
          alwaysReadyHttp > 0 ? [{ name: 'http', instanceCount: alwaysReadyHttp }] : []
        )
        triggers: { http: { perInstanceConcurrency: httpConcurrency } }
      }
    }
    siteConfig: {
      ftpsState: 'Disabled'
      http20Enabled: true
      minTlsVersion: '1.2'
      scmMinTlsVersion: '1.2'
      remoteDebuggingEnabled: false
    }
  }

  resource noFtp 'basicPublishingCredentialsPolicies' = {
    name: 'ftp'
    properties: { allow: false }
  }

  resource noBasicAuth 'basicPublishingCredentialsPolicies' = {
    name: 'scm'
    properties: { allow: false }
  }

  resource appSettings 'config' = {
    name: 'appsettings'
    properties: settings
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
    dependsOn: [appSettings]
  }
}

output name string = app.name
output uri string = 'https://${app.properties.defaultHostName}'
