using '../main.bicep'
extends '../environments/test.bicepparam'

// Contoso may use the operator's own AI account.
param staticConnectionSecretName = 'static-connection'
param allowStaticConnection = 'contoso'
