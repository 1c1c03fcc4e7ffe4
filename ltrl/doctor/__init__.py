"""What is on this machine and what is missing for what somebody wants to do."""

from ltrl.doctor.examine import examine
from ltrl.doctor.finding import Finding, Mark
from ltrl.doctor.wanted import Wanted, wanted

__all__ = ["Finding", "Mark", "Wanted", "examine", "wanted"]
