using '../main.bicep'
extends '../environments/test.bicepparam'

// HTTP requires Entra tokens, not function keys.
param httpAuthClientId = '00000000-0000-0000-0000-000000000002'
