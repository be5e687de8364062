// Everything that a deployment needs, in one resource group. `azd up` reads main.parameters.json;
// environments/*.bicepparam are for `az deployment sub create`. docs/deploy.md describes both.
targetScope = 'subscription'

@description('The name of the environment, such as test. The names of the resources are derived from it.')
@minLength(1)
@maxLength(32)
param environmentName string

@description('The region of all resources. It must offer Flex Consumption: az functionapp list-flexconsumption-locations.')
@minLength(1)
@metadata({ azd: { type: 'location' } })
param location string

@description('The resource group, created if it does not exist. Empty: rg- and the name of the environment.')
@maxLength(90)
param resourceGroupName string = ''

// Scale

@description('The maximum number of instances of each function with a queue trigger, and of all HTTP functions together. Some regions refuse less than 40.')
@minValue(1)
@maxValue(1000)
param maximumInstanceCount int = 100

@description('The memory of an instance. With 2048, a worker runs 512 jobs at once.')
@allowed([2048, 4096])
param instanceMemoryMB int = 2048

@description('Spreads the app and Storage over the zones of the region. It then has two always-ready instances at least, for jobs and for HTTP.')
param zoneRedundant bool = false

@description('Always-ready instances for jobs: no cold start, at a cost.')
@minValue(0)
@maxValue(100)
param alwaysReadyJobs int = 0

@description('Always-ready instances for HTTP.')
@minValue(0)
@maxValue(100)
param alwaysReadyHttp int = 0

@description('HTTP requests that an instance handles at once. Azure defaults to 1 for Python; these functions wait without a thread.')
@minValue(1)
@maxValue(1000)
param httpConcurrency int = 64

@description('How an update of code or settings replaces the instances: RollingUpdate lets jobs end, Recreate ends them.')
@allowed(['RollingUpdate', 'Recreate'])
param siteUpdateStrategy string = 'RollingUpdate'

// Storage and retention

@description('Copies Storage to the paired region, too.')
param geoRedundant bool = false

@description('The number of days after which a blob in an input container is deleted. 0: never.')
@minValue(0)
@maxValue(36500)
param inputRetentionDays int = 30

@description('RETAIN_JOBS_DAYS: how long a finished job is kept, with its result. 0: forever.')
@minValue(0)
@maxValue(3650)
param retainJobsDays int = 30

@description('RETAIN_USAGE_MONTHS: how many whole months usage records are kept. 0: forever.')
@minValue(0)
@maxValue(120)
param retainUsageMonths int = 24

@description('RETAIN_STATEMENTS_YEARS: how many whole years closed months are kept, besides the current one. 0: forever.')
@minValue(0)
@maxValue(100)
param retainStatementsYears int = 10

@description('BUDGET_DEFAULT_ESTIMATE: output tokens that a budget reserves for a job of which nothing is known.')
@minValue(1)
@maxValue(10000000)
param budgetDefaultEstimate int = 20000

@description('BATCH_WINDOW_S: how long jobs gather into one batch of the provider\'s.')
@minValue(1)
@maxValue(3600)
param batchWindowSeconds int = 300

@description('BATCH_ADOPT_S: how long a provider\'s list of batches may lack one whose creation was not answered.')
@minValue(0)
@maxValue(3600)
param batchAdoptSeconds int = 120

@description('ADOPT_WINDOW_S: how long a response whose creation was not answered may still be named by an event.')
@minValue(0)
@maxValue(3600)
param adoptWindowSeconds int = 120

@description('USAGE_EXPORTS: where usage records are sent, as JSON (docs/exports.md). Queues that it names are made.')
param usageExports string = ''

@description('LEASE_SECONDS: how long after its last renewal a job\'s lease expires, so that another worker may take it over.')
@minValue(10)
@maxValue(540)
param leaseSeconds int = 90

@description('True: recover a vault of the same name that was deleted less than 90 days ago. It can\'t be purged.')
param recoverVault bool = false

// Access

@description('Assigns the roles. False: whoever deploys may not, and an owner has deployed with true before.')
param assignRoles bool = true

@description('Makes an identity for KEDA, which counts the messages in the queues when the app runs on Kubernetes.')
param kedaIdentity bool = false

@description('Lets the app write, list and delete connections, for onboarding over HTTP. Without it, the app only reads them.')
param onboardOverHttp bool = false

@description('The object id of a person or group that onboards customers and inspects queues, tables and blobs. Empty: nobody.')
param operatorObjectId string = ''

@description('The type of operatorObjectId.')
@allowed(['User', 'Group', 'ServicePrincipal'])
param operatorType string = 'User'

@description('The client id of an app registration: HTTP then requires Entra tokens for it, not function keys. Empty: function keys.')
param httpAuthClientId string = ''

@description('ENTRA_CUSTOMER_CLAIM: the claim that ties a token to one customer.')
@minLength(1)
param entraCustomerClaim string = 'customer'

@description('MCP_ENABLED: agents may submit jobs and read results as tools (docs/mcp.md).')
param mcpEnabled bool = false

@description('ENTRA_CLIENT_ID: the app registration that customers in other tenants consented to.')
param entraClientId string = ''

@description('The name of the vault\'s secret with the operator\'s static connection. Empty: no static connection.')
param staticConnectionSecretName string = ''

@description('ALLOW_STATIC_CONNECTION: customers that may use it, separated by commas; *, true or 1: every customer, at your cost.')
param allowStaticConnection string = ''

@description('STATIC_MODELS: the models that the static connection may be used for, separated by commas. Empty: all.')
param staticModels string = ''

// Network

@description('ALLOWED_ENDPOINT_SUFFIXES: hosts that connections may point at, separated by commas. Empty: Azure\'s, OpenAI\'s and Anthropic\'s.')
param allowedEndpointSuffixes string = ''

@description('ALLOWED_SCOPES: further scopes of Entra tokens that connections may name, separated by commas.')
param allowedScopes string = ''

@description('ALLOWED_ENTRA_HOSTS: further hosts that the app\'s Entra tokens may be sent to, in full, separated by commas.')
param allowedEntraHosts string = ''

@description('ALLOWED_RESULT_QUEUES: customer=queue pairs, or queues for all, that jobs may name for results, separated by commas. They are made.')
param allowedResultQueues string = ''

@description('Places the app in a virtual network, with private endpoints for Storage and Key Vault.')
param vnetEnabled bool = false

@description('The address space of that network; a /24 is enough.')
param vnetAddressSpace string = '10.61.0.0/24'

@description('ALLOW_PRIVATE_ENDPOINTS: lets connections point at private addresses, as customers\' own private endpoints are.')
param allowPrivateEndpoints bool = false

// Monitoring

@description('Email addresses that alerts are sent to, separated by commas. Empty: alerts show only in the portal.')
param alertEmails string = ''

@description('The URL of the runbook; each alert links to its heading.')
@minLength(1)
param runbookUrl string = 'docs/runbook.md'

@description('Requests /api/health from outside, and raises an alert if it fails. False: HTTP is closed to the internet, or the app is stopped.')
param healthTest bool = true

@description('How many days logs are kept.')
@minValue(30)
@maxValue(730)
param logRetentionDays int = 30

@description('The maximum GB of logs per day; above it, logs and the alerts on them stop until the next day. -1: no limit.')
@minValue(-1)
param logDailyCapGB int = 5

@description('Logs every request to Storage, about a kilobyte of logs each: for an investigation.')
param auditStorage bool = false

var token = toLower(uniqueString(subscription().id, environmentName, location))
var tags = { 'azd-env-name': environmentName }
// The names are known before the deployment, so a preview shows everything that is made from them.
var appName = 'func-${token}'
var identityName = 'id-${token}'
var kedaIdentityName = kedaIdentity ? 'id-keda-${token}' : ''
var hostAccountName = 'sthost${token}'
var jobAccountName = 'stjobs${token}'
var vaultName = 'kv-${token}'
var insightsName = 'appi-${token}'
var packageContainer = 'app-package'

// The queues, containers and table of the app. Its settings take the names from here, so the two can't differ.
var jobsQueue = 'jobs'
var resultsQueue = 'results'
var callbacksQueue = 'callbacks'
var batchesQueue = 'batches'
// An entry is a queue, or a customer=queue pair.
var moreResultQueues = empty(allowedResultQueues)
  ? []
  : map(split(allowedResultQueues, ','), entry => trim(last(split(entry, '='))))
var exportQueues = empty(usageExports)
  ? []
  : map(filter(json(usageExports), entry => contains(entry, 'queue')), entry => string(entry.queue))
// The host would create a poison queue when it needs one, but its role covers only queues that exist. A poison queue has
// a trigger as well, but no poison queue of its own: a message that fails there becomes visible again.
var queues = union(
  [jobsQueue, '${jobsQueue}-poison'],
  [callbacksQueue, '${callbacksQueue}-poison'],
  [batchesQueue, '${batchesQueue}-poison'],
  [resultsQueue],
  moreResultQueues,
  exportQueues
)
var resultsContainer = 'results'
var inputContainers = ['inputs']
var templatesContainer = 'templates'
var statementsContainer = 'statements'
var jobsTable = 'jobs'

// Azure requires two always-ready instances in each group for zones: one alone is in one zone only.
var fewestAlwaysReady = zoneRedundant ? 2 : 0
// Standard_LRS, Standard_ZRS, Standard_GRS or Standard_GZRS.
var storageSku = 'Standard_${geoRedundant ? 'G' : ''}${zoneRedundant ? 'Z' : geoRedundant ? '' : 'L'}RS'

// Everything is in one group, so that it can be removed as one.
resource group 'Microsoft.Resources/resourceGroups@2025-04-01' = {
  name: empty(resourceGroupName) ? 'rg-${environmentName}' : resourceGroupName
  location: location
  tags: tags
}

// The app runs as this.
module identity 'app/identity.bicep' = {
  name: 'identity'
  scope: group
  params: { name: identityName, location: location, tags: tags }
}

// KEDA runs as this, so that what scales the app can read no job's data but the messages of three queues.
module keda 'app/identity.bicep' = if (kedaIdentity) {
  name: 'keda'
  scope: group
  params: { name: kedaIdentityName, location: location, tags: tags }
}

// Logs, telemetry.
module monitoring 'app/monitoring.bicep' = {
  name: 'monitoring'
  scope: group
  params: {
    workspaceName: 'log-${token}'
    insightsName: insightsName
    location: location
    tags: tags
    retentionDays: logRetentionDays
    dailyCapGB: logDailyCapGB
  }
}

// Two accounts: who can write to the host's can run code as the app, so it holds no customer's data, and a
// submitter of jobs never needs a role on it. Their limits are separate, too.
module hostStorage 'app/storage.bicep' = {
  name: 'host-storage'
  scope: group
  params: {
    name: hostAccountName
    location: location
    tags: tags
    sku: storageSku
    containers: [packageContainer]
    privateOnly: vnetEnabled
    workspaceId: monitoring.outputs.workspaceId
    audit: auditStorage
  }
}

// The jobs' account: queues, rows, inputs and results.
module jobStorage 'app/storage.bicep' = {
  name: 'job-storage'
  scope: group
  params: {
    name: jobAccountName
    location: location
    tags: tags
    sku: storageSku
    containers: union([resultsContainer, templatesContainer, statementsContainer], inputContainers)
    queues: queues
    tables: [jobsTable]
    expiringContainers: inputContainers
    expireDays: inputRetentionDays
    privateOnly: vnetEnabled
    workspaceId: monitoring.outputs.workspaceId
    audit: auditStorage
  }
}

// Customers' connections.
module vault 'app/vault.bicep' = {
  name: 'vault'
  scope: group
  params: {
    name: vaultName
    location: location
    tags: tags
    recover: recoverVault
    privateOnly: vnetEnabled
    workspaceId: monitoring.outputs.workspaceId
  }
}

// A network of the app's own.
module network 'app/network.bicep' = if (vnetEnabled) {
  name: 'network'
  scope: group
  params: {
    name: 'vnet-${token}'
    location: location
    tags: tags
    addressSpace: vnetAddressSpace
    targets: [
      { name: 'host-blob', id: hostStorage.outputs.id, part: 'blob' }
      { name: 'host-table', id: hostStorage.outputs.id, part: 'table' }
      { name: 'jobs-blob', id: jobStorage.outputs.id, part: 'blob' }
      { name: 'jobs-queue', id: jobStorage.outputs.id, part: 'queue' }
      { name: 'jobs-table', id: jobStorage.outputs.id, part: 'table' }
      { name: 'vault', id: vault.outputs.id, part: 'vault' }
    ]
  }
}

// What the identities may do.
module rbac 'app/rbac.bicep' = if (assignRoles) {
  name: 'rbac'
  scope: group
  params: {
    appIdentityName: identityName
    appPrincipalId: identity.outputs.principalId
    kedaIdentityName: kedaIdentityName
    kedaPrincipalId: kedaIdentity ? keda!.outputs.principalId : ''
    operatorObjectId: operatorObjectId
    operatorType: operatorType
    hostAccountName: hostAccountName
    jobAccountName: jobAccountName
    queues: queues
    countedQueues: [jobsQueue, callbacksQueue, batchesQueue]
    writtenContainers: [resultsContainer]
    readContainers: union([templatesContainer, statementsContainer], inputContainers)
    vaultName: vaultName
    insightsName: insightsName
    onboardOverHttp: onboardOverHttp
  }
  dependsOn: [hostStorage, jobStorage, vault, monitoring]
}

// The app itself.
module app 'app/function.bicep' = {
  name: 'function'
  scope: group
  params: {
    name: appName
    planName: 'plan-${token}'
    location: location
    tags: tags
    identityId: identity.outputs.id
    subnetId: vnetEnabled ? network!.outputs.appSubnetId : ''
    packageUri: '${hostStorage.outputs.blobUri}${packageContainer}'
    zoneRedundant: zoneRedundant
    siteUpdateStrategy: siteUpdateStrategy
    maximumInstanceCount: maximumInstanceCount
    instanceMemoryMB: instanceMemoryMB
    alwaysReadyJobs: max(alwaysReadyJobs, fewestAlwaysReady)
    alwaysReadyHttp: max(alwaysReadyHttp, fewestAlwaysReady)
    httpConcurrency: httpConcurrency
    httpAuthClientId: httpAuthClientId
    settings: {
      // Read by the host
      AzureWebJobsStorage__credential: 'managedidentity'
      AzureWebJobsStorage__clientId: identity.outputs.clientId
      AzureWebJobsStorage__blobServiceUri: hostStorage.outputs.blobUri
      AzureWebJobsStorage__tableServiceUri: hostStorage.outputs.tableUri
      FUNCTIONS_REQUEST_BODY_SIZE_LIMIT: '16842752' // the largest body that the app takes
      APPLICATIONINSIGHTS_CONNECTION_STRING: monitoring.outputs.connectionString
      APPLICATIONINSIGHTS_AUTHENTICATION_STRING: 'ClientId=${identity.outputs.clientId};Authorization=AAD'
      JobStorage__credential: 'managedidentity'
      // Read by the host and the app
      JobStorage__clientId: identity.outputs.clientId
      JobStorage__queueServiceUri: jobStorage.outputs.queueUri
      JobStorage__blobServiceUri: jobStorage.outputs.blobUri
      JobStorage__tableServiceUri: jobStorage.outputs.tableUri
      JOBS_QUEUE: jobsQueue
      RESULTS_QUEUE: resultsQueue
      CALLBACKS_QUEUE: callbacksQueue
      BATCHES_QUEUE: batchesQueue
      HTTP_AUTH: empty(httpAuthClientId) ? 'key' : 'entra'
      // Read by the app
      AZURE_CLIENT_ID: identity.outputs.clientId
      KEY_VAULT_URL: vault.outputs.uri
      ENTRA_CLIENT_ID: entraClientId
      ENTRA_CUSTOMER_CLAIM: entraCustomerClaim
      MCP_ENABLED: string(mcpEnabled)
      STATIC_CONNECTION: empty(staticConnectionSecretName)
        ? ''
        : '@Microsoft.KeyVault(SecretUri=${vault.outputs.uri}secrets/${staticConnectionSecretName})'
      ALLOW_STATIC_CONNECTION: allowStaticConnection
      STATIC_MODELS: staticModels
      ALLOWED_ENDPOINT_SUFFIXES: allowedEndpointSuffixes
      ALLOWED_SCOPES: allowedScopes
      ALLOWED_ENTRA_HOSTS: allowedEntraHosts
      ALLOW_PRIVATE_ENDPOINTS: string(allowPrivateEndpoints)
      ALLOWED_RESULT_QUEUES: allowedResultQueues
      RESULTS_CONTAINER: resultsContainer
      INPUT_CONTAINERS: join(inputContainers, ',')
      TEMPLATES_CONTAINER: templatesContainer
      STATEMENTS_CONTAINER: statementsContainer
      JOBS_TABLE: jobsTable
      BUDGET_DEFAULT_ESTIMATE: string(budgetDefaultEstimate)
      BATCH_WINDOW_S: string(batchWindowSeconds)
      BATCH_ADOPT_S: string(batchAdoptSeconds)
      ADOPT_WINDOW_S: string(adoptWindowSeconds)
      USAGE_EXPORTS: usageExports
      LEASE_SECONDS: string(leaseSeconds)
      RETAIN_JOBS_DAYS: string(retainJobsDays)
      RETAIN_USAGE_MONTHS: string(retainUsageMonths)
      RETAIN_STATEMENTS_YEARS: string(retainStatementsYears)
    }
  }
  dependsOn: [rbac] // an assignment takes minutes to take effect everywhere, so it comes first
}

// What wakes somebody.
module alerts 'app/alerts.bicep' = {
  name: 'alerts'
  scope: group
  params: {
    environmentName: environmentName
    token: token
    location: location
    tags: tags
    workspaceId: monitoring.outputs.workspaceId
    insightsId: monitoring.outputs.insightsId
    vaultId: vault.outputs.id
    jobAccountId: jobStorage.outputs.id
    healthTest: healthTest
    healthUri: '${app.outputs.uri}/api/health'
    emails: empty(alertEmails) ? [] : map(split(alertEmails, ','), address => trim(address))
    runbookUrl: runbookUrl
  }
}

// What they look at.
module workbook 'app/workbook.bicep' = {
  name: 'workbook'
  scope: group
  params: {
    environmentName: environmentName
    location: location
    tags: tags
    workspaceId: monitoring.outputs.workspaceId
    jobAccountId: jobStorage.outputs.id
    vaultId: vault.outputs.id
  }
}

// azd stores these in the environment's .env
output AZURE_LOCATION string = location
output AZURE_TENANT_ID string = tenant().tenantId
output AZURE_RESOURCE_GROUP string = group.name
output AZURE_FUNCTION_NAME string = app.outputs.name
output SERVICE_APP_URI string = app.outputs.uri
output APP_CLIENT_ID string = identity.outputs.clientId
output APP_PRINCIPAL_ID string = identity.outputs.principalId
output KEDA_CLIENT_ID string = kedaIdentity ? keda!.outputs.clientId : ''
output KEY_VAULT_URL string = vault.outputs.uri
output JOB_QUEUE_URI string = jobStorage.outputs.queueUri
output JOB_BLOB_URI string = jobStorage.outputs.blobUri
output JOB_TABLE_URI string = jobStorage.outputs.tableUri
output WORKBOOK_ID string = workbook.outputs.id
