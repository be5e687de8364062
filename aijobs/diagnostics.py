"""
Errors that an operator can fix, and how to fix them.

Knows the error codes of Storage, Key Vault and the SDKs as they appear in messages.
"""

from __future__ import annotations


class CommandError(Exception):
    """The command can't run. The message is a sentence that says why and what would be right."""

    code = "invalid_request"
    """What `--json` calls it, as over HTTP."""
    exit_code = 1


class InvalidArguments(CommandError):
    """The command line is invalid in a way that the parser does not see."""

    code = "usage"
    exit_code = 2


class NotFound(CommandError):
    """What the command line names does not exist."""

    code = "not_found"


class Exists(CommandError):
    """What the command would make exists, or is in a state that forbids the change."""

    code = "conflict"


def cant_be_read(file: str, error: OSError) -> CommandError:
    """Return the error of a command whose file can't be read."""
    kind = NotFound if isinstance(error, FileNotFoundError) else CommandError
    return kind(f"{file} can't be read: {error.strerror}.")


SIGN_IN = "Sign in with `az login` (or `azd auth login`), to the tenant of the deployment."
_REMEDIES = (
    ("ClientAuthenticationError", SIGN_IN),
    ("CredentialUnavailableError", SIGN_IN),
    (
        "AuthorizationPermissionMismatch",
        "Your login needs the roles Storage Blob, Queue and Table Data Contributor on the storage account.",
    ),
    (
        "AuthorizationFailure",
        "The account's network rejects this machine, your login has no role on it, or the key is another account's.",
    ),
    (
        "AuthenticationFailed",
        "The storage account rejects the key or token. Check the connection string and this machine's clock.",
    ),
    (
        "KeyBasedAuthenticationNotPermitted",
        "The storage account allows no keys. Set JobStorage__queueServiceUri and its siblings for blobs and tables.",
    ),
    ("TableNotFound", "Check JOBS_TABLE. The deployment's template creates the table."),
    ("QueueNotFound", "Check the names of the queues. The deployment's template creates them."),
    ("ContainerNotFound", "Check the names of the containers. The deployment's template creates them."),
    ("(ForbiddenByConnection)", "The vault is closed to public networks. Use its own network, or open it to yours."),
    ("(ForbiddenByFirewall)", "The vault's firewall rejects your address."),
    (
        "Key Vault answered 403",
        "Your login needs the role Key Vault Secrets User on the vault to read, Key Vault Secrets Officer to change.",
    ),
    ("ServiceRequestError", "Check the address, and whether this machine can reach it."),
)


def remedy_for(message: str) -> str:
    """Return a sentence that says how to fix the error in a message, or an empty string if there is none."""
    return next((remedy for code, remedy in _REMEDIES if code in message), "")


def with_remedy(message: str) -> str:
    """Return the message on one line, followed by its remedy."""
    line = " ".join(message.split())
    return f"{line} {remedy_for(line)}".rstrip()
