"""What every model must do before it may be registered: one named list of checks, for every family."""

from shared.checks.model import LIMITS, Check, Limits, Report, check_model, check_stored

__all__ = ["LIMITS", "Check", "Limits", "Report", "check_model", "check_stored"]
