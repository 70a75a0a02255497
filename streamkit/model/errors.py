"""Every error a caller can get. One class per fact; the text says what, which value, which limit, what to do.

StreamkitError
├── RequestError                 the caller's: HTTP 400 with an AWS error code
│   ├── SerializationError           SerializationException
│   ├── UnknownOperation             UnknownOperationException
│   ├── NotImplementedHere           NotImplementedException: in AWS's model, not in streamkit yet
│   ├── MissingAuthentication        MissingAuthenticationTokenException
│   ├── IncompleteSignature          IncompleteSignatureException
│   ├── SignatureMismatch            InvalidSignatureException
│   ├── UnrecognizedClient           UnrecognizedClientException
│   ├── ValidationError              ValidationException
│   ├── InvalidArgument              InvalidArgumentException
│   ├── ResourceNotFound             ResourceNotFoundException
│   │   └── EntityNotFound               EntityNotFoundException: Glue's word for it
│   ├── ResourceInUse                ResourceInUseException
│   ├── LimitExceeded                LimitExceededException
│   ├── ExpiredIterator              ExpiredIteratorException
│   ├── ExpiredNextToken             ExpiredNextTokenException
│   ├── ThroughputExceeded           ProvisionedThroughputExceededException
│   ├── InvalidParameterValue        InvalidParameterValueException
│   ├── InvalidParameter             InvalidParameterException: CloudWatch Logs' word for it
│   ├── ResourceAlreadyExists        ResourceAlreadyExistsException
│   ├── InvalidRequestContent        InvalidRequestContentException
│   ├── ResourceConflict             ResourceConflictException
│   ├── PreconditionFailed           PreconditionFailedException
│   ├── RequestTooLarge              RequestTooLargeException
│   ├── RequestEntityTooLarge        RequestEntityTooLargeException
│   ├── CodeStorageExceeded          CodeStorageExceededException
│   ├── ProvisionedNotFound          ProvisionedConcurrencyConfigNotFoundException
│   ├── PolicyLengthExceeded         PolicyLengthExceededException
│   ├── AccessDenied                 AccessDeniedException
│   ├── AlreadyExists                AlreadyExistsException: Glue
│   ├── InvalidInput                 InvalidInputException: Glue
│   ├── ConcurrentModification       ConcurrentModificationException
│   ├── NumberLimitExceeded          ResourceNumberLimitExceededException: Glue
│   └── TooManyRequests              TooManyRequestsException, with the reason
├── ServerError                  ours or the machine's: HTTP 500 or 503
│   ├── StorageUnavailable           the disk refused; nothing was acknowledged
│   ├── ServiceUnavailable           ServiceUnavailableException: Firehose's word for too much, or for the disk
│   └── DamagedLog                   bytes on disk are not what was written
└── UsageError                   a setting or a call that cannot be right; raised before anything happens
    └── DataDirectoryInUse
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar


class StreamkitError(Exception):
    """Anything streamkit raises on purpose."""

    code: ClassVar[str] = "InternalFailure"
    status: ClassVar[int] = 500
    fields: Mapping[str, Any] = MappingProxyType({})  # further members of the error's shape in AWS's model

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class RequestError(StreamkitError):
    """The request cannot be served as it is. It changed nothing."""

    status = 400


class SerializationError(RequestError):
    code = "SerializationException"


class UnknownOperation(RequestError):
    code = "UnknownOperationException"


class NotImplementedHere(RequestError):
    code = "NotImplementedException"
    status = 501


class MissingAuthentication(RequestError):
    code = "MissingAuthenticationTokenException"


class IncompleteSignature(RequestError):
    code = "IncompleteSignatureException"


class SignatureMismatch(RequestError):
    code = "InvalidSignatureException"


class UnrecognizedClient(RequestError):
    code = "UnrecognizedClientException"


class ValidationError(RequestError):
    code = "ValidationException"


class InvalidArgument(RequestError):
    code = "InvalidArgumentException"


class ResourceNotFound(RequestError):
    code = "ResourceNotFoundException"


class ResourceInUse(RequestError):
    code = "ResourceInUseException"


class LimitExceeded(RequestError):
    code = "LimitExceededException"


class ExpiredIterator(RequestError):
    code = "ExpiredIteratorException"


class ExpiredNextToken(RequestError):
    code = "ExpiredNextTokenException"


class ThroughputExceeded(RequestError):
    code = "ProvisionedThroughputExceededException"


class InvalidParameterValue(RequestError):
    code = "InvalidParameterValueException"


class InvalidParameter(RequestError):
    code = "InvalidParameterException"


class ResourceAlreadyExists(RequestError):
    code = "ResourceAlreadyExistsException"


class InvalidRequestContent(RequestError):
    code = "InvalidRequestContentException"


class ResourceConflict(RequestError):
    code = "ResourceConflictException"
    status = 409


class PreconditionFailed(RequestError):
    code = "PreconditionFailedException"
    status = 412


class RequestTooLarge(RequestError):
    code = "RequestTooLargeException"
    status = 413


class RequestEntityTooLarge(RequestError):
    """A code package is larger than a request may hold."""

    code = "RequestEntityTooLargeException"
    status = 413


class ProvisionedNotFound(RequestError):
    code = "ProvisionedConcurrencyConfigNotFoundException"
    status = 404


class CodeStorageExceeded(RequestError):
    code = "CodeStorageExceededException"


class PolicyLengthExceeded(RequestError):
    code = "PolicyLengthExceededException"


class AccessDenied(RequestError):
    code = "AccessDeniedException"
    status = 403


class EntityNotFound(ResourceNotFound):
    code = "EntityNotFoundException"


class AlreadyExists(RequestError):
    code = "AlreadyExistsException"


class InvalidInput(RequestError):
    code = "InvalidInputException"


class ConcurrentModification(RequestError):
    code = "ConcurrentModificationException"


class NumberLimitExceeded(RequestError):
    code = "ResourceNumberLimitExceededException"


class TooManyRequests(RequestError):
    """A function's or the account's concurrency is used up. `fields`: further members of the answer."""

    code = "TooManyRequestsException"
    status = 429

    def __init__(self, reason: str, message: str = "Rate Exceeded.") -> None:
        super().__init__(message)
        self.fields = {"Reason": reason, "retryAfterSeconds": "1"}


class ServerError(StreamkitError):
    """The request may be right, and could not be served. Repeating it is safe where the operation is."""


class StorageUnavailable(ServerError):
    """A write or a sync failed (disk full, I/O error). Nothing of the failed commit was acknowledged.

    Whether its records are found later is not promised: a client that repeats the put may see them twice, as with AWS.
    """

    code = "ServiceUnavailable"
    status = 503


class ServiceUnavailable(ServerError):
    """A put was not taken, and can be repeated."""

    code = "ServiceUnavailableException"
    status = 503


class DamagedLog(ServerError):
    """Bytes in a segment are not what was written. What follows them stays readable, from `next_offset` on."""

    def __init__(self, path: str, position: int, why: str, next_offset: int | None = None) -> None:
        onward = "" if next_offset is None else f"; reading can go on at offset {next_offset}"
        super().__init__(f"{path} is damaged at byte {position}: {why}{onward}")
        self.path = path
        self.position = position
        self.why = why
        self.next_offset = next_offset


class ServerUnreachable(StreamkitError):
    """No server answered, or it went away before it did. What was asked may have been done or not."""

    code = "ServerUnreachable"
    status = 503


class UsageError(StreamkitError):
    """A setting or an argument that cannot be right."""

    code = "UsageError"
    status = 400


class DataDirectoryInUse(UsageError):
    """Another process holds the data directory."""

    def __init__(self, path: str, holder: str) -> None:
        super().__init__(
            f"{path} is in use by {holder}; stop it, connect to its endpoint instead, or name another directory"
        )
