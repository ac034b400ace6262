"""Telling a local network problem from a blocked transport from a broken relay."""

from relaycall.diagnosis.diagnose import diagnose
from relaycall.diagnosis.finding import Cause, Finding, Status

__all__ = ["Cause", "Finding", "Status", "diagnose"]
