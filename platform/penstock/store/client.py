"""boto3 as a store uses it: a client by the usual settings, and what it raises in one line."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from penstock.errors import StoreError

CONNECTIONS = 32
MISSING = ("NoSuchKey", "404", "NotFound")
REFUSED = ("PreconditionFailed", "412")
FORBIDDEN = (
    "AccessDenied",
    "403",
    "Forbidden",
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
    "ExpiredToken",
)


HASTY, PATIENT = 5, 10
"""Attempts at a request, with growing pauses: 8 and 55 s on average when nobody answers at all."""


def without_user(url: str) -> str:
    """A URL for messages: what stands before an @ may be a secret."""
    scheme, slashes, rest = url.partition("://")
    host, slash, path = rest.partition("/")
    return f"{scheme}{slashes}{host.rpartition('@')[2]}{slash}{path}"


def connect(attempts: int = HASTY) -> Any:
    """A client by the usual settings of AWS; AWS_MAX_ATTEMPTS goes before `attempts`. StoreError where boto3
    is not installed, or they cannot be."""
    try:
        import boto3
        from botocore.config import Config
        from botocore.exceptions import BotoCoreError
    except ImportError:
        raise StoreError("a store at s3://… needs boto3; pip install 'penstock[s3]'") from None
    try:
        attempts = int(os.environ.get("AWS_MAX_ATTEMPTS") or attempts)
    except ValueError:
        raise StoreError("AWS_MAX_ATTEMPTS is no number; unset it, or write 5") from None
    config = Config(
        connect_timeout=5,
        read_timeout=20,
        max_pool_connections=CONNECTIONS,
        retries={"mode": "standard", "total_max_attempts": attempts},
        # what is kept is hashed here; not every server knows these checksums
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )
    try:
        return boto3.session.Session().client("s3", config=config)
    except (BotoCoreError, ValueError) as error:
        given = os.environ.get("AWS_ENDPOINT_URL", "")
        why = " ".join(str(error).replace(given or "\n", without_user(given)).split())[:200]
        raise StoreError(
            f"the settings of AWS: {why}; correct AWS_ENDPOINT_URL, AWS_PROFILE or the keys"
        ) from None


def code_of(error: Any) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


@contextmanager
def explained(url: str, operation: str, endpoint: Callable[[], str]) -> Iterator[None]:
    """Turns what boto3 raises into a StoreError of one line. `url`: of the store; `endpoint`: the server's
    address."""
    from boto3.exceptions import Boto3Error
    from botocore.exceptions import (
        BotoCoreError,
        ClientError,
        ConnectionError,
        HTTPClientError,
        NoCredentialsError,
    )

    try:
        yield
    except NoCredentialsError:
        raise StoreError(
            f"store {url}: no credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
        ) from None
    except (HTTPClientError, ConnectionError) as error:
        raise StoreError(
            f"store {url}: {endpoint()} does not answer ({type(error).__name__}); "
            "correct AWS_ENDPOINT_URL, or try again"
        ) from error
    except ClientError as error:
        raise StoreError(reason(error, url, operation, endpoint())) from error
    except (BotoCoreError, Boto3Error) as error:
        raise StoreError(f"store {url}: {' '.join(str(error).split())[:200]}") from error


def reason(error: Any, url: str, operation: str, endpoint: str) -> str:
    code = code_of(error)
    if code == "NoSuchBucket":
        return f"store {url}: no bucket {url.split('/')[2]!r} at {endpoint}; create it, or name another"
    if code in FORBIDDEN:
        return f"store {url}: no permission ({operation}: {code}); check the credentials and the policy"
    return f"store {url}: {operation}: {code}: {error.response['Error'].get('Message', '')[:200]}"
