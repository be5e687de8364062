"""Azure Storage behind the Protocols of `stores`: tables, blobs, queues. The only users of its SDKs."""
