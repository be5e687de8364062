using '../main.bicep'
extends '../environments/test.bicepparam'

// Parameters that change a value only, each with another one than its default.
param recoverVault = true
param allowPrivateEndpoints = true
param instanceMemoryMB = 4096
param httpConcurrency = 32
param retainStatementsYears = 7
param budgetDefaultEstimate = 30000
param batchWindowSeconds = 600
param batchAdoptSeconds = 60
param adoptWindowSeconds = 90
param leaseSeconds = 120
param entraCustomerClaim = 'tenant'
param mcpEnabled = true
param entraClientId = '00000000-0000-0000-0000-000000000004'
param staticModels = 'gpt-4o'
param allowedEndpointSuffixes = '.example.com'
param allowedScopes = 'https://example.com/.default'
param allowedEntraHosts = 'models.example.com'
