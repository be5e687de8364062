using '../main.bicep'
extends '../environments/test.bicepparam'

// A group of people onboards customers, and the app writes connections, too.
param operatorObjectId = '00000000-0000-0000-0000-000000000003'
param operatorType = 'Group'
param onboardOverHttp = true
