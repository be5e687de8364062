"""
What stands in for Azure on one machine: Storage (Azurite), the AI endpoints (aimock), Key Vault and
the managed-identity endpoint (ours), and the Functions host (Microsoft's worker, our host).

For developing and testing. The app never imports it, and nothing here is deployed.
"""
