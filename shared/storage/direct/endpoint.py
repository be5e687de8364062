"""Where a service of the storage account is, and the key, from either form of its settings. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from shared.network.hosts import Host, host_header
from shared.secret import Secret
from shared.storage_settings import StorageAccount

_EMULATOR = {"table": 10002, "queue": 10001, "blob": 10000}
_EMULATOR_ACCOUNT = "devstoreaccount1"
_EMULATOR_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
"""The same for everybody (learn.microsoft.com/azure/storage/common/storage-connect-azurite)."""
_SUFFIX = "core.windows.net"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A service's address. `path` is empty, or begins with `/`, as in the emulator."""

    host: Host
    path: str
    account: str
    key: Secret
    """Empty for an identity or a SAS."""
    has_sas: bool = False

    @property
    def url(self) -> str:
        """The URL of the service, without a slash at its end."""
        return f"{'https' if self.host.is_secure else 'http'}://{host_header(self.host)}{self.path}"


def read_endpoint(settings: StorageAccount, service: str) -> Endpoint:
    """Return the endpoint of a `service`: `table`, `queue` or `blob`."""
    if settings.connection_string is None:
        return _endpoint(getattr(settings, f"{service}_service_uri"), "", Secret(""))
    text = settings.connection_string.reveal()
    parts = (part.partition("=") for part in text.split(";"))
    members = {name.strip().lower(): value.strip() for name, _, value in parts}
    if "usedevelopmentstorage" in members:
        url = f"http://127.0.0.1:{_EMULATOR[service]}/{_EMULATOR_ACCOUNT}"
        return _endpoint(url, _EMULATOR_ACCOUNT, Secret(_EMULATOR_KEY))
    account, key = members.get("accountname", ""), members.get("accountkey", "")
    scheme, suffix = members.get("defaultendpointsprotocol", "https"), members.get("endpointsuffix", _SUFFIX)
    url = members.get(f"{service}endpoint") or f"{scheme}://{account}.{service}.{suffix}"
    return _endpoint(url, account, Secret(key), has_sas=not key)


def _endpoint(url: str, account: str, key: Secret, *, has_sas: bool = False) -> Endpoint:
    parts = urlsplit(url)
    is_secure = parts.scheme.lower() != "http"
    host = Host(parts.hostname or "", parts.port or (443 if is_secure else 80), is_secure)
    return Endpoint(host, parts.path.rstrip("/"), account, key, has_sas)
