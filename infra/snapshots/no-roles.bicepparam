using '../main.bicep'
extends '../environments/test.bicepparam'

// Deployed by a pipeline that may not assign roles, after an owner has.
param assignRoles = false
