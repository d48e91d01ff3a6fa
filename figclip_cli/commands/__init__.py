"""One thin file per verb: flags, one library call, a printed result. No logic lives here."""

from __future__ import annotations
