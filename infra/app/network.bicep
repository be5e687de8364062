// A virtual network for the app, with private endpoints for Storage and Key Vault.
param name string
param location string
param tags { *: string }
param addressSpace string

@description('The private endpoints: name, the resource\'s id, and the part of it: blob, queue, table or vault.')
param targets { name: string, id: string, part: 'blob' | 'queue' | 'table' | 'vault' }[]

// Key Vault's private DNS zone differs from the suffix of its addresses (learn.microsoft.com/azure/private-link/private-endpoint-dns).
var zones = {
  blob: 'privatelink.blob.${environment().suffixes.storage}'
  queue: 'privatelink.queue.${environment().suffixes.storage}'
  table: 'privatelink.table.${environment().suffixes.storage}'
  vault: 'privatelink.vaultcore${replace(environment().suffixes.keyvaultDns, '.vault', '')}'
}

// One subnet for the app, one for the private endpoints.
resource network 'Microsoft.Network/virtualNetworks@2026-01-01' = {
  name: name
  location: location
  tags: tags
  properties: {
    addressSpace: { addressPrefixes: [addressSpace] }
    subnets: [
      {
        name: 'app'
        properties: {
          addressPrefix: cidrSubnet(addressSpace, 25, 0)
          delegations: [{ name: 'flex', properties: { serviceName: 'Microsoft.App/environments' } }]
        }
      }
      {
        name: 'endpoints'
        properties: { addressPrefix: cidrSubnet(addressSpace, 27, 4), privateEndpointNetworkPolicies: 'Enabled' }
      }
    ]
  }

  resource appSubnet 'subnets' existing = {
    name: 'app'
  }

  resource endpointSubnet 'subnets' existing = {
    name: 'endpoints'
  }
}

// The names of Storage and the vault, which lead to their private addresses ...
resource dnsZones 'Microsoft.Network/privateDnsZones@2024-06-01' = [
  for zone in items(zones): {
    name: zone.value
    location: 'global'
    tags: tags
  }
]

// ... within this network.
resource dnsLinks 'Microsoft.Network/privateDnsZones/virtualNetworkLinks@2024-06-01' = [
  for (zone, i) in items(zones): {
    parent: dnsZones[i]
    name: name
    location: 'global'
    tags: tags
    properties: { registrationEnabled: false, virtualNetwork: { id: network.id } }
  }
]

// The private addresses.
resource endpoints 'Microsoft.Network/privateEndpoints@2026-01-01' = [
  for target in targets: {
    name: 'pe-${target.name}-${name}'
    location: location
    tags: tags
    properties: {
      subnet: { id: network::endpointSubnet.id }
      privateLinkServiceConnections: [
        { name: target.name, properties: { privateLinkServiceId: target.id, groupIds: [target.part] } }
      ]
    }
  }
]

// Enters each address into its zone.
resource endpointNames 'Microsoft.Network/privateEndpoints/privateDnsZoneGroups@2026-01-01' = [
  for (target, i) in targets: {
    parent: endpoints[i]
    name: 'default'
    properties: {
      privateDnsZoneConfigs: [
        {
          name: target.part
          properties: { privateDnsZoneId: resourceId('Microsoft.Network/privateDnsZones', zones[target.part]) }
        }
      ]
    }
    dependsOn: [dnsZones, dnsLinks]
  }
]

output appSubnetId string = network::appSubnet.id
