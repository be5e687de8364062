using '../main.bicep'
extends '../environments/test.bicepparam'

// In a virtual network, with private endpoints.
param vnetEnabled = true
