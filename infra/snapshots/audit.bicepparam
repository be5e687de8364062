using '../main.bicep'
extends '../environments/test.bicepparam'

// Every request to Storage is logged, and nothing tests the app from outside.
param auditStorage = true
param healthTest = false
