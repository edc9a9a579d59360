"""Every error Segue raises on purpose, as one tree; it knows no store, no config and no terminal.

    SegueError                      exit code 1
      ConfigError                   2   flags, environment or file are wrong; every fault in one message
        ExtraMissing                    Segue was installed without what this needs. An ImportError too
      RetryableError                1   the same call may succeed later
        StoreUnavailable                nothing answers at that address, or no longer
          NotConnected                  it was not even asked: the connection is still being opened
        StoreTimeout                    no answer in time: the outcome is unknown
        Throttled                       the store asks for less
        NotLoaded                       the collection is not in Milvus's memory, as for a while after its restart
        WorkerLost                      whoever copied a range elsewhere is gone; what was acknowledged is recorded
        CursorLost                      a server was restarted, and must be read from the beginning
        BarrierNotReached               the mode is changed, but somebody has not acknowledged it yet
        GateClosed                      agent state is being handed from one store to the other; nothing was written
      DataError                     1   the store refuses the data itself; the batch is split until the guilty row is alone
      FatalError                    1   trying again will not help
        AuthenticationFailed            wrong user, password or token
        TlsMismatch                     one side speaks TLS and the other does not, or the certificate is not trusted
        DatabaseNotFound                the server has no database of that name
        CollectionMismatch              the Milvus collection exists with another schema
        TableMismatch                   a table in PostgreSQL exists with other columns
        PermissionMissing               the user or role may not do this
        StateStoreFailed                the tool's own records cannot be written or read
      PreflightFailed               3   something that a migration needs is not there
      ValidationMismatch            4   both sides were compared, and too much differs
      UnsafeResume                  5   the checkpoint was made under other conditions
      Interrupted                   130 asked to stop; the checkpoint is saved
      ModeRefused                   5   a storage mode that cannot be reached from here, or not yet
      NotConfirmed                  5   shown only; nothing is changed without --confirm
      InvalidInput                  2   a call's arguments do not fit; nothing was written. A ValueError too
        UnknownKey                      there is no item under that key

A message says what is wrong, where, and what to do next (`hint`); it never holds a credential. The exit code belongs to
the class, so the CLI needs no table (DESIGN: exit codes).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Self


class SegueError(Exception):
    """Something went wrong that Segue can put in words.

    Args:
        message: What is wrong and where, one line, no credential.
        hint: What to do next, one or more lines; empty when there is nothing to say.
    """

    exit_code = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class ConfigError(SegueError):
    """Flags, environment or configuration file do not fit."""

    exit_code = 2


class ExtraMissing(ConfigError, ImportError):
    """Packages that one of Segue's extras brings are not installed."""

    @classmethod
    def of(cls, *, what: str, extra: str, missing: Iterable[str]) -> Self:
        """Return the error that says what needs which extra, and how it is installed."""
        message = f"{what} needs segue[{extra}], of which these packages are not installed: {', '.join(missing)}"
        return cls(message, hint=f"pip install 'segue[{extra}]'")


class RetryableError(SegueError):
    """The same call may succeed later."""


class StoreUnavailable(RetryableError):
    """Nothing answers at that address, or no longer."""


class NotConnected(StoreUnavailable):
    """The store was not even asked: the connection is still being opened."""


class StoreTimeout(RetryableError):
    """No answer in time; whether the request took effect is unknown."""


class Throttled(RetryableError):
    """The store asks for less, or for smaller requests."""


class NotLoaded(RetryableError):
    """The collection is not in Milvus's memory: Milvus was just restarted, or somebody released it."""


class WorkerLost(RetryableError):
    """Whoever copied a range on another machine is gone; what was acknowledged is recorded."""


class CursorLost(RetryableError):
    """A server was restarted, so its cursors mean nothing any more: it must be read from the beginning."""


class BarrierNotReached(RetryableError):
    """The mode is changed, but not everybody acts by it yet; the same command goes on waiting."""


class GateClosed(RetryableError):
    """Agent state is being handed from one store to the other, or this store is not written now; nothing was written."""


class DataError(SegueError):
    """The store refuses the data itself; the batch is split until the guilty row is alone, which is quarantined."""


class FatalError(SegueError):
    """Trying again will not help."""


class AuthenticationFailed(FatalError):
    """The store refuses the credentials."""


class TlsMismatch(FatalError):
    """One side speaks TLS and the other does not, or the certificate is not trusted."""


class DatabaseNotFound(FatalError):
    """The server has no database of that name."""


class CollectionMismatch(FatalError):
    """The Milvus collection exists with another schema."""


class TableMismatch(FatalError):
    """A table in PostgreSQL exists with other columns."""


class PermissionMissing(FatalError):
    """The user or role may not do this."""


class StateStoreFailed(FatalError):
    """The tool's own records cannot be written or read."""


class PreflightFailed(SegueError):
    """Something that a migration needs is not there; nothing was begun."""

    exit_code = 3


class ValidationMismatch(SegueError):
    """Both sides were compared, and too much differs."""

    exit_code = 4


class UnsafeResume(SegueError):
    """A checkpoint made under other conditions cannot be continued."""

    exit_code = 5


class Interrupted(SegueError):
    """Asked to stop; the checkpoint is saved."""

    exit_code = 130


class ModeRefused(SegueError):
    """A storage mode cannot be reached from the present one, or not yet."""

    exit_code = 5


class NotConfirmed(SegueError):
    """What a command would do was shown; nothing is changed until it is confirmed."""

    exit_code = 5


class InvalidInput(SegueError, ValueError):
    """The arguments of a call do not fit; nothing was written."""

    exit_code = 2


class UnknownKey(InvalidInput):
    """There is no item under a key."""
