using '../main.bicep'
extends '../environments/test.bicepparam'

// In a virtual network of another address space, with private endpoints.
param vnetEnabled = true
param vnetAddressSpace = '10.62.0.0/24'
