using '../main.bicep'
extends '../environments/test.bicepparam'

// One warm instance for jobs and one for HTTP.
param alwaysReadyJobs = 1
param alwaysReadyHttp = 1
