using '../main.bicep'

// Copies in three zones, a year of jobs, always-ready instances, a virtual network, and an address for alerts.
param environmentName = 'production'
param location = 'swedencentral'
param storageSku = 'Standard_ZRS'
param alwaysReadyJobs = 1
param alwaysReadyHttp = 1
param retainJobsDays = 365
param retainUsageMonths = 60
param logRetentionDays = 90
param logDailyCapGB = 20
param vnetEnabled = true
param alertEmails = 'oncall@example.com'
