"""A typed client of Watershed: `Watershed` and `AsyncWatershed` have a method for each operation of the server.

What is sent and answered are plain dictionaries, whose types are in `models`. Every error is a `WatershedError`.
"""

from . import models
from ._paging import async_pages, pages
from ._retry import Retry
from .client import AsyncWatershed, Watershed
from .errors import ApiError, ConnectionFailed, WatershedError

__all__ = [
    "ApiError", "AsyncWatershed", "ConnectionFailed", "Retry", "Watershed", "WatershedError", "async_pages", "models",
    "pages",
]
