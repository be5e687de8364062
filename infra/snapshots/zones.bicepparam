using '../main.bicep'
extends '../environments/test.bicepparam'

// Spread over the zones of the region.
param zoneRedundant = true
