using '../main.bicep'
extends '../environments/test.bicepparam'

// Storage is copied to the paired region.
param geoRedundant = true
