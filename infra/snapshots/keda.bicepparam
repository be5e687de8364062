using '../main.bicep'
extends '../environments/test.bicepparam'

// With an identity for KEDA, which counts messages on Kubernetes.
param kedaIdentity = true
