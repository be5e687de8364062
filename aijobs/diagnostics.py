"""What goes wrong for a person to mend, and what would mend it. Knows the words of Storage, Key Vault and the SDKs."""

from __future__ import annotations


class Refused(Exception):
    """The command can't be done; the message is a sentence that says why, and what would be right."""


NO_LOGIN = "Sign in with `az login` (or `azd auth login`), to the tenant of the deployment."
_MENDS = (
    ("ClientAuthenticationError", NO_LOGIN),
    ("CredentialUnavailableError", NO_LOGIN),
    (
        "AuthorizationPermissionMismatch",
        "Your login needs the roles Storage Blob, Queue and Table Data Contributor on the storage account.",
    ),
    ("AuthorizationFailure", "The storage account's network does not let this machine in, or your login has no role."),
    ("AuthenticationFailed", "The storage account refuses this key or token: check JobStorage, and this clock."),
    (
        "KeyBasedAuthenticationNotPermitted",
        "The account takes no keys: set JobStorage__queueServiceUri and the others.",
    ),
    ("TableNotFound", "Is JOBS_TABLE right? The deployment's template makes it."),
    ("QueueNotFound", "Are the names of the queues right? The deployment's template makes them."),
    ("ContainerNotFound", "Are the names of the containers right? The deployment's template makes them."),
    ("(ForbiddenByConnection)", "The vault is closed to public networks: ask from its own, or open it to yours."),
    ("(ForbiddenByFirewall)", "The vault's firewall does not let in the address that you ask from."),
    (
        "Key Vault answered 403",
        "Your login needs the role Key Vault Secrets User on the vault to read, Key Vault Secrets Officer to change.",
    ),
    ("ServiceRequestError", "Is the address right, and reachable from here?"),
)


def mend_of(message: str) -> str:
    """What mends the fault that a message tells of, as a sentence; empty where that is not known."""
    return next((mend for word, mend in _MENDS if word in message), "")


def mended(message: str) -> str:
    """The message on one line, with what mends it."""
    line = " ".join(message.split())
    mend = mend_of(line)
    return f"{line} {mend}" if mend else line
