using '../main.bicep'

// Small, with short retention: for tests.
param environmentName = 'test'
param location = 'swedencentral'
param maximumInstanceCount = 40
param retainJobsDays = 7
param inputRetentionDays = 7
param logDailyCapGB = 1
