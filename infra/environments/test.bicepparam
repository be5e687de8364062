using '../main.bicep'

// Small, and quick to forget: for trying things out.
param environmentName = 'test'
param location = 'swedencentral'
param maximumInstanceCount = 10
param retainJobsDays = 7
param inputRetentionDays = 7
param logDailyCapGB = 1
