using '../main.bicep'
extends '../environments/test.bicepparam'

// An update ends what runs: for regions without rolling updates.
param siteUpdateStrategy = 'Recreate'
