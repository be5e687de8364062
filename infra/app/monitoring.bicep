// Application Insights and the Log Analytics workspace that it writes to. Neither accepts a key.
param workspaceName string
param insightsName string
param location string
param tags { *: string }

@description('How many days logs are kept.')
param retentionDays int

@description('GB per day; -1: no limit.')
param dailyCapGB int

// Where all logs are, and what the alerts query.
resource workspace 'Microsoft.OperationalInsights/workspaces@2025-02-01' = {
  name: workspaceName
  location: location
  tags: tags
  properties: {
    sku: { name: 'PerGB2018' }
    retentionInDays: retentionDays
    workspaceCapping: { dailyQuotaGb: dailyCapGB }
    features: { disableLocalAuth: true }
  }
}

// Takes the telemetry of the app and its host. It writes into the workspace.
resource insights 'Microsoft.Insights/components@2020-02-02' = {
  name: insightsName
  location: location
  tags: tags
  kind: 'web'
  properties: {
    Application_Type: 'web'
    WorkspaceResourceId: workspace.id
    DisableLocalAuth: true
  }
}

output workspaceId string = workspace.id
output insightsId string = insights.id
output insightsName string = insights.name

// An address, not a credential: local authentication is off, so sending needs a role.
output connectionString string = insights.properties.ConnectionString
