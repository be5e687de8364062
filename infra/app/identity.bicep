// One identity. Its roles (rbac.bicep) are everything that it may do.
param name string
param location string
param tags { *: string }

// An identity without a secret: Azure vouches for what runs as it.
resource identity 'Microsoft.ManagedIdentity/userAssignedIdentities@2024-11-30' = {
  name: name
  location: location
  tags: tags
}

output id string = identity.id
output clientId string = identity.properties.clientId
output principalId string = identity.properties.principalId
