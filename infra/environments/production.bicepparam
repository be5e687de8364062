using '../main.bicep'

// Spread over the zones, a year of jobs, a virtual network, an address for alerts, and a runbook that they link to.
param environmentName = 'production'
param location = 'swedencentral'
param zoneRedundant = true
param retainJobsDays = 365
param retainUsageMonths = 60
param logRetentionDays = 90
param logDailyCapGB = 20
param vnetEnabled = true
param alertEmails = 'oncall@example.com'
param runbookUrl = 'https://example.com/runbook.md'
